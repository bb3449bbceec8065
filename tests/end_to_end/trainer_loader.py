"""Reads exported shards with open_clip's own training loader. Run in a process that sees webdataset <= 0.2.86, which it needs."""

import json
import sys

import open_clip
import webdataset
from open_clip.transform import image_transform
from open_clip_train.data import get_wds_dataset
from open_clip_train.params import parse_args


def main(urls: str, samples: int) -> None:
    args = parse_args([
        "--train-data", urls, "--val-data", urls, "--dataset-type", "webdataset", "--batch-size", "32", "--workers", "1",
        "--val-num-samples", str(samples),
    ])
    args.world_size, args.rank, args.local_rank, args.distributed, args.seed = 1, 0, 0, False, 0
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    validation = get_wds_dataset(args, image_transform(64, is_train=False), is_train=False, tokenizer=tokenizer).dataloader
    seen = sum(len(images) for images, _ in validation)
    # Without --train-num-samples the size comes from sizes.json beside the shards.
    training = get_wds_dataset(args, image_transform(64, is_train=True), is_train=True, tokenizer=tokenizer).dataloader
    images, tokens = next(iter(training))
    shapes = [list(images.shape), list(tokens.shape)]
    print(json.dumps({"webdataset": webdataset.__version__, "seen": seen, "training": training.num_samples, "shapes": shapes}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
