"""`signet analytics report`: one page of plots.

`report`     the verb: asks the questions, and writes the file
`composing`  which questions, and the page of their answers; `sections` and `seen` what is said and drawn of each
`plots`      the kinds of plots; `grain` the size of a time axis' steps
`labels`     how ids are called; `words` counts and durations in words
`page`       the page itself
"""
