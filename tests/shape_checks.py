"""Type checker for the doctests: with `--jaxtyping-packages=lt_lib.losses,shape_checks.checked` every call is compared
with its annotated types and shapes.

An int is accepted where a float is expected, as PEP 484 has it; beartype leaves that out unless it is told.
"""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
