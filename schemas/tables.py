"""Arrow schemas of the tables that reductions write over the columns of a whole run."""

import pyarrow as pa

from schemas.columns import field

ROW = [
    field("shard_id", pa.string(), "input shard"),
    field("row", pa.int32(), "row in that shard; (shard_id, row) is the row id"),
]

DUPLICATES = pa.schema([
    *ROW,
    field("uid", pa.string(), "content identity of the row"),
    field("of_shard_id", pa.string(), "the row that it duplicates and that is preferred (more pixels, then the smaller row id)"),
    field("of_row", pa.int32(), "row in that shard"),
    field("kind", pa.string(), "uid (same image and caption), sha256 (same image bytes) or near"),
    field("hamming", pa.int32(), "bits in which the perceptual hashes differ"),
    field("correlation", pa.float32(), "Pearson correlation of the 16 x 16 RGB thumbnails"),
    field("cosine", pa.float32(), "cosine of the image embeddings; reported only"),
    field("removed", pa.bool_(), "this pair makes (shard_id, row) a duplicate: its partner survives"),
])

SEMANTIC_DUPLICATES = pa.schema([
    *ROW,
    field("uid", pa.string(), "content identity of the row"),
    field("of_shard_id", pa.string(), "the row of the same class that it duplicates: greedy the most preferred one that stays, "
          "otherwise the most similar one that is preferred, which may have gone itself"),
    field("of_row", pa.int32(), "row in that shard"),
    field("kind", pa.string(), "semantic"),
    field("hamming", pa.int32(), "null: perceptual hashes are not compared"),
    field("correlation", pa.float32(), "null: thumbnails are not compared"),
    field("cosine", pa.float32(), "cosine of the image embeddings, above 1 - epsilon"),
    field("removed", pa.bool_(), "true: (shard_id, row) is a duplicate"),
])
"""The columns of DUPLICATES, of pairs that are known after the clustering; one file for each group of input shards."""

EXEMPLAR = pa.struct([
    pa.field("shard_id", pa.string()),
    pa.field("row", pa.int32()),
    pa.field("similarity", pa.float32()),
])

CLASS_ENTITY = pa.struct([
    pa.field("id", pa.string()),
    pa.field("name", pa.string()),
    pa.field("lift", pa.float32()),         # share in the class / share in all
    pa.field("share", pa.float32()),        # of the class's members that have the entity or one below it
    pa.field("confidence", pa.float32()),   # chance that it describes the class
    pa.field("closeness", pa.float32()),    # cosine of the centroid and the entity's text
])

CLASSES = pa.schema([
    field("class_id", pa.int32(), "stable id; kept over refits where the recipe says so"),
    field("level", pa.int32(), "0: the classes that label samples; above: coarser ones"),
    field("parent", pa.int32(), "class_id one level up; null at the top"),
    field("name", pa.string(), "human name, unique in its level"),
    field("named", pa.bool_(), "false: no entity stands out, the name is only a handle"),
    field("confidence", pa.float32(), "chance that the name describes the class; null without a name"),
    field("size", pa.int64(), "samples whose nearest class this is, or one below it"),
    field("mean_similarity", pa.float32(), "mean cosine of those samples to the centroid; null above level 0"),
    field("entities", pa.list_(CLASS_ENTITY), "entities that stand out, best first"),
    field("exemplars", pa.list_(EXEMPLAR), "samples nearest to the centroid, best first; none above level 0"),
    field("outliers", pa.list_(EXEMPLAR), "members farthest from the centroid, farthest first; none above level 0"),
])

CLASS_IDS = pa.schema([
    field("level", pa.int32(), "level of the class"),
    field("old_id", pa.int32(), "class of the fit before; of a new class the one most like it (it may have split off), or null"),
    field("class_id", pa.int32(), "class of this fit; of a retired class the one most like it (they may have merged), or null"),
    field("cosine", pa.float32(), "of their centroids"),
    field("overlap", pa.float32(), "Jaccard index of their samples among those in both fits; null when not known"),
    field("status", pa.string(), "kept (old_id = class_id), new or retired; a retired id is never used again"),
])

INDEXED_SHARDS = pa.schema([
    field("shard_id", pa.string(), "input shard; its number in the ids of an index is the row of this table, from 0. It is there "
          "again where its vectors, or which of them are in the index, changed: the last one counts"),
    field("rows", pa.int64(), "vectors of this shard with this number, of each kind; 0: no index has any by now"),
    field("vectors", pa.string(), "of the SHA-256 of its embeddings: they are these"),
    field("members", pa.string(), "of the numbers of its rows that are in the index: they are these"),
])

# A knowledge base: any one in this schema will do (WordNet is bundled; Wikidata QIDs fit as well).
KNOWLEDGE_BASE = pa.schema([
    field("id", pa.string(), "entity id"),
    field("lemmas", pa.list_(pa.string()), "names and aliases, first = preferred"),
    field("sense_rank", pa.list_(pa.int16()), "per alias: 1 = the most frequent meaning of that alias"),
    field("sense_count", pa.list_(pa.int32()), "per alias: how often it was seen with this meaning (a prior)"),
    field("gloss", pa.string(), "description"),
    field("hypernyms", pa.list_(pa.string()), "ids one level up"),
    field("domain", pa.dictionary(pa.int32(), pa.string()), "broad kind, e.g. noun.animal"),
    field("is_instance", pa.bool_(), "a named individual"),
])

MANIFEST = pa.schema([
    field("path", pa.string(), "of a promised file, relative to the root; the files of a folder follow one another"),
    field("size", pa.int64(), "bytes"),
    field("sha256", pa.string(), "hex digest of its bytes"),
])

INPUTS = pa.schema([
    field("shard_id", pa.string(), "its name in every output"),
    field("url", pa.string(), "where it is"),
    field("relative", pa.string(), "URL relative to the declared root; inputs are in its order"),
    field("size", pa.int64(), "bytes"),
    field("version", pa.string(), "etag, or modification time and size, when the run read it"),
    field("kind", pa.string(), "tar, parquet, or gap: samples that nobody can read"),
    field("sidecar", pa.string(), "URL of img2dataset's parquet beside it"),
    field("stats", pa.string(), "URL of img2dataset's _stats.json beside it"),
])
