"""The answer of `plan`: what a run would read, and what it would cost on machines like this one."""

from schemas.answers.base import Answer


class FitPass(Answer):
    """Some passes of one kind of a clustering."""

    name: str
    """what is compared"""
    rows: int
    """samples that are looked at"""
    centres: int
    """centres that each of them is compared with"""
    times: int
    """passes of this kind, at most"""


class FitCosts(Answer):
    """What a clustering and the labels after it would cost if every sample were kept."""

    rows: int
    """samples"""
    dimension: int
    """values of an embedding"""
    k: int
    """classes"""
    flops: int
    """floating-point operations in all, at most"""
    seconds: float
    """of all passes, at the measured rate"""
    actor_bytes: int
    """memory of one actor, beside the mapped embeddings"""
    node_bytes: int
    """memory of one machine, beside the mapped embeddings"""
    wire_bytes: int
    """sent between machines in all"""
    rate: float
    """floating-point operations a second of one actor, measured here"""
    nodes: int
    """machines"""
    actors: int
    """in all"""
    passes: tuple[FitPass, ...]
    """in order"""
    why: str
    """how the schedule was chosen, in words"""
    refused: str | None
    """why a run on such machines would refuse to fit; null where it would not"""


class PassEstimate(Answer):
    """What one pass would take: the annotate pass and the clustering at rates measured in this process, the others by what they
    were measured to take for each sample and shard, in processor time."""

    name: str
    """as the run's progress calls it"""
    seconds: float
    """on the given workers"""
    driver_bytes: int
    """memory of the process that was started"""
    worker_bytes: int
    """memory of each worker; 0: the pass has none"""
    files: int
    """that it adds to the root"""
    requests: int
    """files opened and folders listed in the root"""
    moved_bytes: int
    """read from and written to the root"""
    alone: bool
    """it runs in one process, so that more workers do not shorten it"""


class PrecisionDistance(Answer):
    """Similarities by one arithmetic beside those of fp32 on the same pairs."""

    route: str
    """the numeric route, e.g. cuda-sm90-bf16-compiled"""
    pairs: int
    """pairs that were embedded both ways"""
    mean: float
    """mean of |difference| of the cosines"""
    p999: float
    """99.9 % quantile of |difference| of the cosines"""
    finite: bool
    """false: the arithmetic overflows for this model"""
    flips: tuple[tuple[float, float], ...]
    """(bound of the recipe, expected share of pairs that end on the other side of it, 0..1)"""


class RunEstimate(Answer):
    """What a run would read, write and take, from a probe of the first samples in this process."""

    shards: int
    """input shards"""
    bytes: int
    """of the input shards"""
    samples: int
    """estimated from the bytes of the probed ones; exact where the probe read all"""
    rate: float
    """samples a second of one actor, measured; 0 where none could be read"""
    start_seconds: float
    """to open the stages once"""
    seconds: float
    """of the whole annotate pass on the given workers"""
    column_bytes: int
    """of the columns that would be stored"""
    export_bytes_at_most: int
    """of the exported shards if every sample were kept"""
    warnings: tuple[str, ...]
    """what a run would keep nothing of, and why; input that is missing or left out"""
    conditions: tuple[str, ...]
    """what the recipe's source asks for and shardmill does not check"""
    classes: FitCosts | None
    """null where the recipe fits no classes"""
    passes: tuple[PassEstimate, ...]
    """every pass of a run at this size, in order"""
    refused: tuple[str, ...]
    """the passes that such machines cannot make, each with what to set; empty where all can be made"""
    route: str
    """numeric route of the embeddings"""
    precision: tuple[PrecisionDistance, ...]
    """the arithmetics that were tried; none on a CPU"""
    text: dict[str, str]
    """the same for people, by line"""
