# shellcheck shell=bash
# Sources all helpers and has what all scripts do with them: set_up and tear_down.

LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# shellcheck source=common.sh
. "$LIB/common.sh"
# shellcheck source=packages.sh
. "$LIB/packages.sh"
# shellcheck source=venv.sh
. "$LIB/venv.sh"
# shellcheck source=redis.sh
. "$LIB/redis.sh"
# shellcheck source=engine.sh
. "$LIB/engine.sh"
# shellcheck source=images.sh
. "$LIB/images.sh"
# shellcheck source=pages.sh
. "$LIB/pages.sh"
# shellcheck source=versions.sh
. "$LIB/versions.sh"

# shellcheck source=users.sh
. "$LIB/users.sh"
# shellcheck source=demo.sh
. "$LIB/demo.sh"

# set_up: everything that the demo and the tests stand on.
set_up() {
    make_folder "$STATE" JAAS_STATE_DIR
    lock "$STATE"
    use_state
    ensure_packages
    ensure_venv
    ensure_redis
    ensure_engine
    ensure_images
    write_env
    unlock
}

# set_up_python: what tests need that touch neither engine nor Redis.
set_up_python() {
    make_folder "$STATE" JAAS_STATE_DIR
    lock "$STATE"
    ensure_venv
    unlock
}

# tear_down gently|everything: stops the demo's programs, and then the engine and Redis
# that we started; "gently" leaves these if somebody else is using them.
tear_down() {
    local others
    if [ ! -d "$STATE" ]; then
        say "stop: nothing is running ($STATE does not exist)"
        return
    fi
    lock "$STATE"
    read_env
    stop_flower
    stop_worker
    stop_pages
    stop_demo_network
    others=$(others_using)
    if [ -n "$others" ] && [ "$1" = gently ]; then
        say "stop: the engine and Redis stay, for they are used by $others"
        unlock
        return
    fi
    stop_engine
    stop_redis
    unmount_below "$STATE"
    rm -rf --one-file-system "$STATE"
    rm -f "$STATE.lock"
    unlock
    say "stop: everything that these scripts started is gone"
}

# read_env: which Redis and engine the last set-up used.
read_env() {
    # shellcheck disable=SC1091
    if [ -f "$STATE/env" ]; then . "$STATE/env"; fi
}
