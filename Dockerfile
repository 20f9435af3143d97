# docker build -t mrharmony .
# docker run --rm --network none -v /data:/data mrharmony bids /data/study /data/out participant --to NSK
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE constraints.txt /opt/source/
COPY src /opt/source/src
COPY container /opt/source/container
RUN TORCH_INDEX="$TORCH_INDEX" sh /opt/source/container/install.sh /opt/source
RUN useradd --create-home mrharmony
USER mrharmony
ENV HOME=/home/mrharmony MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["mrharmony"]
