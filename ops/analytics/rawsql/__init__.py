"""What raw SQL of analysts may do: read our tables, and nothing else (`guard`).

`tree`       ClickHouse's own tree of a query, looked through for what is known to be harmless
`functions`  the functions that are
`limits`     the settings that it runs with, and what to say where it runs into one
"""
