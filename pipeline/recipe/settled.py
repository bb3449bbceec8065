"""What a recipe leaves open is settled once, at the start of a run, and written to run.json; later runs of the root keep to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.recipe.recipe import Recipe


@dataclass(frozen=True)
class Settled:
    """What a recipe leaves open, settled once when a root is begun: `auto`, and what other roots have published."""

    route: str = ""
    """Numeric route of the embeddings; empty while nobody was asked."""
    ner: bool | None = None
    """Whether mentions are names too (`entities.ner`); None: not settled."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Recipe key (fit_on, ids_from) -> the folder of centroids that the root named there had published when the run began; `index`
    -> the folder of the index that the run's own root had, where it goes on from it."""
    labelled: Mapping[str, Any] = field(default_factory=dict)
    """What the recipe said of `fit_on` and `ids_from` before `label` gave the root another's classes; empty where it did not. A
    recipe that still says so means those classes."""
    distances: tuple[Mapping[str, Any], ...] = ()
    """How far the precisions that were tried are from fp32 (`precision.Distance`), for whoever reads run.json."""

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> "Settled":
        """From the object of a run.json. Raises KeyError or TypeError where it is damaged."""
        outputs, settled = record["outputs"], record.get("settled", {})
        ner, labelled = settled.get("ner"), settled.get("labelled", {})
        others, distances = outputs.get("others", {}), tuple(record.get("precision", ()))
        return cls(str(outputs["route"]), ner if isinstance(ner, bool) else None, others, labelled, distances)

    def of_recipe(self, recipe: Recipe, recogniser: Callable[[], bool]) -> "Settled":
        """With `ner` as the recipe has it. `auto` means what was settled before, else whether a recogniser is installed here, which
        is then asked for."""
        if recipe.entities.ner != "auto":
            return replace(self, ner=recipe.entities.ner)
        return self if self.ner is not None else replace(self, ner=recogniser())
