"""The read model for analysts: rows of ClickHouse's tables, made from the log's events.

`tables`        what the tables hold, column by column
`conversation`  what must be known of a conversation to make rows of its events
`fold`          events to rows: pure, the same rows whenever they are made

Nothing here talks to ClickHouse; `ops/analytics` does. docs/analytics.md tells analysts about it.
"""
