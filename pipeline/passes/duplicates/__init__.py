"""From the columns of all shards to the table of duplicates, over files, so that no process holds the run:

1. pictures.py: groups of shards send what is compared of each picture to partitions: all that are equal in bytes or in looks come
   to one, and plain ones, which look like nothing, go by their bytes.
2. equal.py: a partition says which rows repeat a preferred one, and sends the others' hashes and sketches to each band.
3. alike.py: a part of a band says which hashes are within the radius and may correlate.
4. thumbnails.py: groups of shards give the thumbnails of those pictures.
5. decided.py: one worker confirms the pairs and says who goes. It holds what is in pairs, not the run.
6. table.py: groups of shards write the pairs of their rows, and the driver appends them.

A file that exists is done. What counts as a duplicate is in `reduce/duplicates/`.
"""
