# shellcheck shell=bash
# Images, made here from Debian packages and from this repository: no registry is
# asked. Each carries the hash of what it was made from as a label, and is made
# again only when that has changed.

IMAGE_LABEL=jaas.inputs
JAAS_IMAGES="jaas-test:latest jaas-python:bookworm href-counter:latest jaas-pages:latest jaas-postgres:bookworm"

ensure_images() {
    make_image jaas-test:latest make_test_image \
        "$(declare -f make_test_image copy_busybox make_users)"
    make_image jaas-python:bookworm make_python_image \
        "$(declare -f make_python_image unpack precompile make_users)"
    make_image href-counter:latest make_href_counter_image \
        "$(declare -f make_href_counter_image)" "$REPO"/examples/href-counter/{Dockerfile,href_counter.py} \
        "$(docker image inspect --format '{{.Id}}' jaas-python:bookworm)"
    make_image jaas-pages:latest make_pages_image \
        "$(declare -f make_pages_image copy_busybox make_users)"
    make_image jaas-postgres:bookworm make_postgres_image \
        "$(declare -f make_postgres_image unpack copy_busybox make_users)"
    say "images: up to date ($JAAS_IMAGES)"
}

# make_image NAME FUNCTION INPUT...: runs FUNCTION NAME HASH SCRATCH_FOLDER if the
# inputs (files or texts) are not those that the image was made from.
make_image() {
    local name=$1 maker=$2 hash old scratch=$STATE/build
    shift 2
    hash=$(hash_of "$@")
    if [ "$(image_hash "$name")" = "$hash" ]; then return; fi
    say "images: making $name"
    old=$(docker image inspect --format '{{.Id}}' "$name" 2>/dev/null || true)
    rm -rf "$scratch"
    mkdir -p "$scratch"
    "$maker" "$name" "$hash" "$scratch"
    rm -rf "$scratch"
    # The former image stays if it is still in use.
    [ -z "$old" ] || docker image rm "$old" >/dev/null 2>&1 || true
}

# hash_of TEXT_OR_FILE...: of the files' contents, and of the texts that name no file.
hash_of() {
    local input
    for input in "$@"; do
        if [ -f "$input" ]; then cat "$input"; else printf '%s\n' "$input"; fi
    done | sha256sum | cut -c 1-16
}

image_hash() {
    docker image inspect --format "{{index .Config.Labels \"$IMAGE_LABEL\"}}" "$1" 2>/dev/null || true
}

# import_image NAME HASH FOLDER DOCKERFILE_INSTRUCTION...: a folder becomes an image.
import_image() {
    local name=$1 hash=$2 root=$3 change args=()
    shift 3
    for change in "$@"; do args+=(--change "$change"); done
    tar -C "$root" --owner=0 --group=0 --numeric-owner -c . |
        docker import --change "LABEL $IMAGE_LABEL=$hash" "${args[@]}" - "$name" >/dev/null
}

# --- jaas-test: a shell and some hundred small programs in 2 MB, for the tests ---

make_test_image() {
    local root=$3/root
    copy_busybox "$3" "$root"
    make_users "$root"
    import_image "$1" "$2" "$root" 'ENV PATH=/bin' 'CMD ["sh"]'
}

# copy_busybox SCRATCH ROOT: the machine's static busybox, or the package's, which is
# not installed (it would replace a busybox that somebody wants).
copy_busybox() {
    local busybox=/bin/busybox applet
    if ! is_static "$busybox"; then
        apt_download "$1/busybox" busybox-static
        dpkg -x "$1"/busybox/*.deb "$1/busybox"
        busybox=$(find "$1/busybox" -type f -name busybox -perm -u+x | head -n 1)
    fi
    mkdir -p "$2/bin"
    cp "$busybox" "$2/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$2/bin/$applet"
    done
}

is_static() { [ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1; }

# make_users ROOT: images need to know root and nobody, and want a /tmp.
make_users() {
    mkdir -p "$1/etc" "$1/tmp"
    chmod 1777 "$1/tmp"
    printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
}

# --- jaas-python: Debian's Python and its standard library, nothing else ---

make_python_image() {
    local root=$3/root package packages
    # What apt would install on a machine that has nothing, less the package manager.
    packages=$(apt-get install --simulate --no-install-recommends -o Dir::State::status=/dev/null \
        python3-minimal libpython3-stdlib 2>/dev/null | awk '$1 == "Inst" && $2 !~ /^(dpkg|tar)$/ {print $2}')
    if [ -z "$packages" ]; then die -2 "apt knows no python3-minimal: run apt-get update"; fi
    # shellcheck disable=SC2086  # a list of names
    apt_download "$3/debs" $packages
    mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/usr/local/bin"
    unpack "$3/debs" "$root"
    ln -s /usr/bin/python3 "$root/usr/local/bin/python"
    make_users "$root"
    precompile "$root"
    import_image "$1" "$2" "$root" \
        'ENV PATH=/usr/local/bin:/usr/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1' 'CMD ["python3"]'
}

# unpack FOLDER ROOT: the packages in a folder, without what only people read.
unpack() {
    local package
    for package in bin sbin lib lib64; do ln -s "usr/$package" "$2/$package"; done
    for package in "$1"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -C "$2" --keep-directory-symlink -x
    done
    rm -rf "$2"/usr/share/{doc,man,locale,lintian,bash-completion} "$2"/usr/lib/*/{gconv,krb5}
}

# precompile ROOT: the packages compile the library when they are installed; without
# that every start of a container would. The image's own Python does it, so that the
# byte code fits, started through the image's own loader, so that it runs here.
precompile() {
    local loader
    loader=$(find "$1"/usr/lib "$1"/usr/lib64 -name 'ld-linux*.so.*' | head -n 1)
    PYTHONHOME=$1/usr "$loader" --library-path "$(echo "$1"/usr/lib/*-linux-gnu)" "$1/usr/bin/python3" \
        -m compileall -q -s "$1" "$1"/usr/lib/python3.* >/dev/null ||
        say "images: the Python library could not be compiled (containers will start slower)"
}

# --- href-counter: the example, on top of jaas-python ---

make_href_counter_image() {
    local out
    out=$(docker build --quiet --build-arg BASE=jaas-python:bookworm --label "$IMAGE_LABEL=$2" \
        --tag "$1" "$REPO/examples/href-counter" 2>&1) || die "docker build of $1 failed:"$'\n'"$out"
}

# --- jaas-pages: a web server with some hundred pages that nobody here wrote ---

make_pages_image() {
    local root=$3/root package html
    package=$(apt-cache depends python3-doc 2>/dev/null | awk '$1 == "Depends:" {print $2; exit}')
    apt_download "$3/debs" "${package:-python3.11-doc}"
    dpkg -x "$3"/debs/*.deb "$3/doc"
    copy_busybox "$3" "$root"
    make_users "$root"
    mkdir "$root/www"
    # The pages alone: they hold the links. The large ones are packed.
    find "$3/doc/usr/share/doc" -name '*.html.gz' -exec gunzip {} +
    html=$(find "$3/doc/usr/share/doc" -type d -name html | head -n 1)
    (cd "$html" && find . -type f -name '*.html' ! -path './_*' -print0 | tar --null --files-from=- -c) |
        tar -C "$root/www" -x
    [ -f "$root/www/library/json.html" ] || die "the package $package has not the pages that were expected"
    import_image "$1" "$2" "$root" 'ENV PATH=/bin' 'EXPOSE 80' 'USER 65534:65534' \
        'CMD ["httpd", "-f", "-p", "80", "-h", "/www"]'
}

# --- jaas-postgres: Debian's PostgreSQL, server and client, for examples/migration ---

make_postgres_image() {
    local root=$3/root packages
    # The libraries that the two programs need; of just-in-time compilation, 130 MB, nothing.
    packages=$(apt-get install --simulate --no-install-recommends -o Dir::State::status=/dev/null postgresql \
        2>/dev/null | awk '$1 == "Inst" && $2 ~ /^(lib|zlib|tzdata|postgresql-(client-)?[0-9])/ \
            && $2 !~ /perl|llvm|z3|pam-modules|semanage|sepol|l10n|libc-bin/ {print $2}')
    if [ -z "$packages" ]; then die -2 "apt knows no postgresql: run apt-get update"; fi
    # shellcheck disable=SC2086  # a list of names
    apt_download "$3/debs" $packages
    mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/run/postgresql"
    unpack "$3/debs" "$root"
    rm -rf "$root"/usr/lib/postgresql/*/lib/{llvmjit*,bitcode}
    copy_busybox "$3" "$root"
    make_users "$root"
    printf 'postgres:x:999:999::/:/bin/sh\n' >>"$root/etc/passwd"
    printf 'postgres:x:999:\n' >>"$root/etc/group"
    ln -s "$(cd "$root" && echo usr/lib/postgresql/*/bin)" "$root/postgres"
    import_image "$1" "$2" "$root" \
        'ENV PATH=/postgres:/usr/bin LANG=C' 'CMD ["sh"]'
}
