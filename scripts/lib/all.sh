# shellcheck shell=bash
# Sources all helpers and names the two things that scripts do with them.

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

# set_up: everything that the demo and the tests stand on.
set_up() {
    make_folder "$STATE" JAAS_STATE_DIR
    lock "$STATE"
    ensure_packages
    ensure_venv
    ensure_redis
    ensure_engine
    ensure_images
    write_env
    unlock
}
