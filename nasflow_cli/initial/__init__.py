"""The first experiment file: what the data is becomes commented YAML that fits it. Trains nothing, writes no file.

`detect` says which reader a path is for, `columns` which column of a table is what, `findings` what the readers find,
`fit` which experiment suits that (a function of plain values), `document` how it is written down. Refuses what no
reader can read, in the words of that reader. Looks at no device: who calls says what the machine is.
"""

from nasflow_cli.initial.draft import Draft, digits, draft
from nasflow_cli.initial.fit import Machine

__all__ = ["Draft", "Machine", "digits", "draft"]
