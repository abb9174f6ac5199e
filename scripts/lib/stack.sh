# shellcheck shell=bash
# The images of stack.yml for machines without a registry: the production Dockerfiles, on
# bases made here, with pip's packages from a folder.

STACK_IMAGES="jaas-redis:lab jaas-worker:lab jaas-flower:lab"

# ensure_stack_images: on the one-node engine.
ensure_stack_images() {
    local sources
    sources=$(cd "$REPO" && cat docker/*.Dockerfile docker/*.txt pyproject.toml &&
        find jaas_submit jaas_worker -name '*.py' -print0 | sort -z | xargs -0 cat)
    make_image jaas-redis:lab make_redis_image "$(declare -f make_redis_image copy_busybox make_users)" \
        "$(type -P redis-server)"
    make_image jaas-build:lab make_build_image "$(declare -f make_build_image)" "$REPO/docker/constraints.txt" \
        "$(docker image inspect --format '{{.Id}}' jaas-python:bookworm)"
    make_image jaas-worker:lab make_stack_image "$sources" "$(docker image inspect --format '{{.Id}}' jaas-build:lab)"
    make_image jaas-flower:lab make_stack_image "$sources" "$(docker image inspect --format '{{.Id}}' jaas-build:lab)"
    say "images: up to date ($STACK_IMAGES)"
}

# Redis of this machine, with the libraries that it was linked with.
make_redis_image() {
    local root=$3/root program library
    copy_busybox "$3" "$root"
    make_users "$root"
    mkdir -p "$root/data"
    for program in redis-server redis-cli; do
        program=$(type -P "$program") || die -2 "$program is not installed: apt-get install redis-server"
        cp -L "$program" "$root/bin/"
        for library in $(ldd "$program" | grep -o '/[^ ]*'); do
            mkdir -p "$root$(dirname "$library")"
            cp -L "$library" "$root$library"
        done
    done
    import_image "$1" "$2" "$root" 'ENV PATH=/bin' 'VOLUME /data'
}

# Python with pip, and with the wheels of all that the two images need.
make_build_image() {
    local out
    mkdir -p "$3/context/wheels"
    cp -r "$("$VENV/bin/python" -c 'import pathlib, pip; print(pathlib.Path(pip.__file__).parent)')" "$3/context/pip"
    # The constraints name all packages; the image's Python is not this one, and may need others of them.
    out=$("$VENV/bin/python" -m pip download --quiet --disable-pip-version-check --only-binary=:all: \
        --python-version 3.11 --dest "$3/context/wheels" --no-deps --require-hashes \
        --requirement "$REPO/docker/constraints.txt" 2>&1 9>&-) || die "the wheels cannot be downloaded:"$'\n'"$out"
    out=$(docker build --quiet --label "$IMAGE_LABEL=$2" --tag "$1" --file - "$3/context" 2>&1 <<'DOCKERFILE'
FROM jaas-python:bookworm
COPY pip /usr/lib/python3/dist-packages/pip
COPY wheels /wheels
DOCKERFILE
    ) || die "docker build of $1 failed:"$'\n'"$out"
}

# The production Dockerfile, as it is.
make_stack_image() {
    local out name=${1%:*}
    out=$(docker build --quiet --file "$REPO/docker/${name#jaas-}.Dockerfile" --label "$IMAGE_LABEL=$2" --tag "$1" \
        --build-arg BASE=jaas-python:bookworm --build-arg BUILD=jaas-build:lab \
        --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels "$REPO" 2>&1) ||
        die "docker build of $1 failed:"$'\n'"$out"
}

# lab_images: makes them, and loads them to the lab's nodes.
lab_images() {
    ensure_stack_images
    # shellcheck disable=SC2034  # load_images reads it
    JAAS_IMAGES=$STACK_IMAGES
    load_images
}
