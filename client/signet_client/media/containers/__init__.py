"""The containers of pictures, each taken apart and put together without what tells about people.

kept    what is kept of a file, as spans of it and bytes between them
exif    how a picture is to be turned
jpeg, png, gif, webp
"""
