# shellcheck shell=bash
# Images, made here from Debian packages and from this repository: no registry is
# asked. Each carries the hash of what it was made from as a label, and is made
# again only when that has changed.

IMAGE_LABEL=jaas.inputs
JAAS_IMAGES="jaas-test:latest"

# hash_of TEXT_OR_FILES...: of the named files' contents, and of the texts that are no file.
hash_of() {
    local input
    for input in "$@"; do
        if [ -f "$input" ]; then cat "$input"; else printf '%s\n' "$input"; fi
    done | sha256sum | cut -c 1-16
}

image_is_current() { # image_is_current NAME HASH
    [ "$(docker image inspect --format "{{index .Config.Labels \"$IMAGE_LABEL\"}}" "$1" 2>/dev/null)" = "$2" ]
}

# import_image NAME HASH FOLDER DOCKERFILE_INSTRUCTION...: a folder becomes an image.
import_image() {
    local name=$1 hash=$2 root=$3 change args=()
    shift 3
    for change in "$@"; do args+=(--change "$change"); done
    tar -C "$root" --owner=0 --group=0 --numeric-owner -c . |
        docker import --change "LABEL $IMAGE_LABEL=$hash" "${args[@]}" - "$name" >/dev/null
}

# make_image NAME HASH FUNCTION: runs FUNCTION NAME HASH SCRATCH_FOLDER if needed.
make_image() {
    local name=$1 hash=$2 scratch
    if image_is_current "$name" "$hash"; then return; fi
    say "images: making $name"
    scratch=$STATE/build
    rm -rf "$scratch"
    mkdir -p "$scratch"
    "$3" "$name" "$hash" "$scratch"
    rm -rf "$scratch"
}

# copy_busybox FOLDER: one static program with a shell and some hundred applets.
copy_busybox() {
    local busybox=/bin/busybox
    if ! is_static "$busybox"; then
        apt_download "$STATE/build/debs" busybox-static
        dpkg -x "$STATE"/build/debs/busybox-static_*.deb "$STATE/build/busybox"
        busybox=$STATE/build/busybox/bin/busybox
        [ -f "$busybox" ] || busybox=$STATE/build/busybox/usr/bin/busybox
    fi
    mkdir -p "$1/bin"
    cp "$busybox" "$1/bin/busybox"
    local applet
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
}

is_static() { [ -x "$1" ] && ! ldd "$1" >/dev/null 2>&1; }

# make_users FOLDER: the two users that images need.
make_users() {
    mkdir -p "$1/etc" "$1/tmp"
    chmod 1777 "$1/tmp"
    printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$1/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
}

make_test_image() {
    local root=$3/root
    copy_busybox "$root"
    make_users "$root"
    import_image "$1" "$2" "$root" 'ENV PATH=/bin' 'CMD ["sh"]'
}

ensure_images() {
    make_image jaas-test:latest "$(hash_of "$(declare -f make_test_image copy_busybox make_users)")" make_test_image
    say "images: up to date ($JAAS_IMAGES)"
}
