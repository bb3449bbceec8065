"""Which samples are asked for, in the words of a recipe's rules: a column and a bound, or several, which must all hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.errors import InputError
from pipeline.recipe.rule_columns import Column
from pipeline.recipe.rules import Bound
from pipeline.select.verdicts import meets
from schemas.columns import ENTITIES as ENTITY_COLUMNS

Where = Mapping[str, Any]
ENTITIES = ENTITY_COLUMNS.field("entities").type
"""The type of the column of entities: the one list that can be asked about, by the ids of those that are confirmed."""


def bounds(where: Where, schema: pa.Schema) -> dict[str, Bound]:
    """The bound of each column. A value instead of a bound means `equals`, a list or tuple `any_of`. Raises InputError, which
    names the column, for a bound that does not fit it."""
    by_column = {}
    for name, wish in where.items():
        type = schema.field(name).type
        if type == ENTITIES:
            by_column[name] = _of_entities(name, wish)
            continue
        if not (pa.types.is_primitive(type) or pa.types.is_string(type)):
            raise InputError(f"where: {name} is {type}, and a bound needs one value per sample: filter the table that you get")
        if pa.types.is_floating(type) and not isinstance(wish, Mapping):
            raise InputError(f'where: {name} is a decimal number: give a bound, {{"{name}": {{"min": …}}}}, or max, above, below')
        try:
            bound = Bound.model_validate(_bound(wish))
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join([name, *map(str, problem["loc"][:1])])
            conditions = f"; choose of {', '.join(Bound.model_fields)}" if problem["type"] == "extra_forbidden" else ""
            raise InputError(f"where: {key}: {problem['msg'].removeprefix('Value error, ')}{conditions}") from None
        misfit = bound.misfit(Column(name, type, "", ""))
        if misfit:
            raise InputError(f"where: {misfit}")
        by_column[name] = bound
    return by_column


def _of_entities(name: str, wish: Any) -> Bound:
    """The bound on entities: the sample has one of these, confirmed."""
    given = _bound(wish)
    ids = (given["equals"],) if set(given) == {"equals"} else given["any_of"] if set(given) == {"any_of"} else None
    if not isinstance(ids, tuple) or not all(isinstance(id, str) for id in ids):
        raise InputError(f'where: {name} are several per sample: say which ids are wanted, {{"{name}": ["n02084071"]}}')
    return Bound(any_of=ids)


def _has_one(column: pa.Array, ids: Sequence[str | int]) -> NDArray[np.bool_]:
    """bool [n]: a confirmed entity of the sample is one of these."""
    entities, rows = column.flatten(), pc.list_parent_indices(column)
    wanted = pc.and_(pc.is_in(entities.field("id"), pa.array(ids, pa.string())), pc.fill_null(entities.field("confirmed"), False))
    result = np.zeros(len(column), bool)
    result[rows.filter(wanted).to_numpy()] = True
    return result


def _bound(wish: Any) -> dict[str, Any]:
    if isinstance(wish, Mapping):
        return {name: _plain(value) for name, value in wish.items()}
    return {"any_of": _plain(wish)} if isinstance(wish, list | tuple) else {"equals": _plain(wish)}


def _plain(value: Any) -> Any:
    """Numbers as Python has them, for those that come out of arrays and tables."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, np.generic):
        return value.item()
    return value.as_py() if isinstance(value, pa.Scalar) else value


def chosen(columns: Mapping[str, pa.Array], bounds: Mapping[str, Bound]) -> NDArray[np.int64]:
    """int64 [matches], ascending: the positions of the samples that meet all bounds. `columns` are n values each; a null meets
    no bound."""
    masks = [_has_one(columns[name], bound.any_of or ()) if columns[name].type == ENTITIES
             else meets(pa.chunked_array([columns[name]]), bound) for name, bound in bounds.items()]
    return np.flatnonzero(np.logical_and.reduce(masks))
