# lnrnn for training on an NVIDIA GPU or a CPU. The torch wheel brings its CUDA libraries; the host
# brings the driver (docker run --gpus all). gcc and g++ build the fused CPU kernels.
#
#   docker build -t lnrnn .
#   docker run --rm --gpus all -v "$PWD/runs:/home/lnrnn/runs" lnrnn model=lstm_ln trainer=gpu
#
# `make dockerfile-check` executes these steps without Docker.
FROM python:3.11-slim-bookworm

RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc g++ \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 lnrnn
WORKDIR /opt/lnrnn

# Dependencies first: a change of the source does not install them again.
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*project["dependencies"], *project["optional-dependencies"]["tensorboard"], sep="\n")' \
  > requirements.txt \
 && pip install --no-cache-dir -c constraints.txt -r requirements.txt
COPY README.md LICENSE ./
COPY lnrnn ./lnrnn
COPY conf ./conf
RUN pip install --no-cache-dir --no-deps .

USER lnrnn
WORKDIR /home/lnrnn
RUN mkdir runs && python -m lnrnn.ops.cpu
ENTRYPOINT ["lnrnn", "train"]
