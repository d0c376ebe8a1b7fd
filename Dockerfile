# lnrnn for training on an NVIDIA GPU or a CPU. The torch wheel brings its CUDA libraries; the host
# brings the driver (docker run --gpus all). gcc and g++ build the fused CPU kernels.
#
#   docker build -t lnrnn .
#   docker run --rm --gpus all -v "$PWD/runs:/home/lnrnn/runs" lnrnn model=lstm_ln trainer=gpu
FROM python:3.11-slim

RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc g++ \
 && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home --uid 1000 lnrnn
WORKDIR /opt/lnrnn

# Dependencies first: a change of the source does not install them again.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY lnrnn ./lnrnn
RUN pip install --no-cache-dir -c constraints.txt -e '.[tensorboard]'
COPY conf ./conf
COPY scripts ./scripts

USER lnrnn
WORKDIR /home/lnrnn
RUN mkdir runs && python -m lnrnn.ops.cpu
ENTRYPOINT ["python", "/opt/lnrnn/scripts/train.py"]
