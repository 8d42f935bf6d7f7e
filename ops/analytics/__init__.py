"""`signet analytics`: ClickHouse beside the log, and what is asked of it.

`warehouse`  the port to ClickHouse; `clickhouse` speaks to one through clickhouse-connect
`keeper`     the process that has the embedded one (chDB) open, for whoever asks; `keeping` starts it and asks it
`server`     one on a server; `place` chooses between the two
`schema`     makes the tables, and keeps up to which position they are loaded
`loader`     rows of the log's events, exactly once; `recall` has what it needs of earlier rows
`verifier`   the tables against the log
`questions`  the ready questions
`rawsql`     what other questions may do
`names`      of accounts and conversations, which ClickHouse never has
`reporting`  one page of plots
`verb`       the verbs: `loading`, `checking`, `asking`; `opening` is what they begin with
"""
