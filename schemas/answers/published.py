"""Every answer that the command line gives as JSON, by the name of its schema file."""

from typing import Any

from schemas.answers.classes import ClassComparison, ClassDetails, ClassRow, NumberOfClasses
from schemas.answers.neighbours import BatchAnswers, QueryHits, QueryNames
from schemas.answers.packs import Packed
from schemas.answers.plans import RunEstimate
from schemas.answers.recipes import RecipeKey, RecipeSummary, ResolvedRecipe, RuleColumn
from schemas.answers.runs import Place, RunResult, Status
from schemas.answers.samples import Collected, Explanation, SampleList, Simulation, Verification
from schemas.answers.tables import Embedded, SqlAnswer

ANSWERS: dict[str, Any] = {
    "run": RunResult,
    "label": RunResult,
    "plan": RunEstimate,
    "pack": Packed,
    "status": Status,
    "path": Place,
    "verify": Verification,
    "gc": Collected,
    "explain": tuple[Explanation, ...],
    "samples": SampleList,
    "query": QueryHits,
    "query_batch": BatchAnswers,
    "query_names": QueryNames,
    "simulate": Simulation,
    "sql": SqlAnswer,
    "embeddings": Embedded,
    "classes": tuple[ClassRow, ...],
    "class": ClassDetails,
    "classes_compare": ClassComparison,
    "classes_suggest": NumberOfClasses,
    "recipes_list": tuple[RecipeSummary, ...],
    "recipes_show": ResolvedRecipe,
    "recipes_keys": tuple[RecipeKey, ...],
    "recipes_columns": tuple[RuleColumn, ...],
}
"""`class` is `classes ROOT CLASS`; `classes_compare` and `classes_suggest` are `classes` with that option;
`query_batch` is `query` with a file of queries, `query_names` with --name; `recipes_list` and the like are `recipes list`."""
