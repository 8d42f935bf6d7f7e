"""Files that are sent: what becomes of them before they leave, and after they have come. Nothing here waits or talks to
anybody; callers use a thread.

    pictures    decides what a file is, and prepares it: pieces to send, size as shown, preview
    metadata    takes out of a picture what it tells beside the picture; containers/ has a module for each format
    previews    the size of a picture as it is shown, and its preview
    kinds       types by content and name
    names       names under which received files may be kept
    joined      pieces of memory as one file
    sealing     the format of a sealed file: what the server gets
"""
