# The command `shardmill` with everything it needs but model weights.
#
#   docker build -t shardmill .                                          # for CPUs
#   docker build -t shardmill:gpu --build-arg EXTRAS=gpu,s3,ner --build-arg TORCH=https://pypi.org/simple .
#   docker run --rm --shm-size 4g -v /data:/data shardmill run sample --output /data/demo
#
# Ray keeps its objects in /dev/shm: the 64 MB that Docker gives by default are too few. For a GPU add `--gpus all`; weights that
# a run downloads are kept with `-v weights:/home/shardmill/.cache`; files are written as user 1000 unless `--user` says otherwise.
FROM python:3.12-slim

ARG EXTRAS=cpu,s3,ner
ARG TORCH=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 shardmill
WORKDIR /opt/shardmill
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY schemas schemas
COPY pipeline pipeline
COPY jobs jobs
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --extra-index-url "$TORCH" ".[$EXTRAS]"

USER 1000
WORKDIR /home/shardmill
ENTRYPOINT ["shardmill"]
CMD ["--help"]
