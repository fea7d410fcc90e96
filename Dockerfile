# snu-reid in a container; docs/package.md has more.
#
#   docker build -t snu-reid .                                   computes on the CPU
#   docker build -t snu-reid:cuda --build-arg DEVICE=cuda .      on NVIDIA GPUs too (needs their container toolkit)
#
#   docker run --rm --shm-size 2g --user "$(id -u):$(id -g)" -v "$PWD:/work" snu-reid train DATASETS.ROOT_DIR data ...
#
# --shm-size: the processes that decode images hand over batches in /dev/shm, of which a container has 64 MB by default.
# --user: what is written into the folder belongs to you.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --constraint constraints.txt build hatchling \
    && python -m build --wheel --no-isolation --outdir /wheels

FROM python:${PYTHON}-slim
ARG DEVICE=cpu
ARG EXTRAS=faiss,timm,onnx,serve
COPY constraints.txt /opt/constraints.txt
# torch and torchvision come from one index: a pair of two does not import. constraints.txt pins their versions.
# hadolint ignore=DL3013
RUN case "${DEVICE}" in \
        cpu) pip install --no-cache-dir --no-deps --constraint /opt/constraints.txt \
            --index-url https://download.pytorch.org/whl/cpu torch torchvision ;; \
        cuda) ;; \
        *) echo "DEVICE must be cpu or cuda, got ${DEVICE}" >&2; exit 2 ;; \
    esac
# hadolint ignore=DL3013
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /opt/constraints.txt "$(echo /wheels/*.whl)[${EXTRAS}]"

# Any user can write caches there, the one of --user too, who has no name.
ENV HOME=/home/reid USER=reid
RUN useradd --uid 1000 --home-dir "${HOME}" reid && install -d -m 1777 "${HOME}" /work
USER 1000
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["snu-reid"]
CMD ["--help"]
