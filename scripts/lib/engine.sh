# shellcheck shell=bash
# A container engine that is a swarm manager: one that is already there, or our own.

# shellcheck disable=SC2153  # STATE comes from common.sh
ENGINE_DIR=$STATE/engine
ENGINE_HOST=unix://$ENGINE_DIR/docker.sock
SWARM_NOTE=$STATE/swarm-we-made # names the foreign engine on which we ran "swarm init"

# find_docker: Debian's client first, it fits Debian's engine.
find_docker() {
    if [ -x /usr/bin/docker ]; then echo /usr/bin/docker; else type -P docker; fi
}

docker() { "$(find_docker)" "$@"; }

# docker_on HOST ARGUMENTS: with a deadline, as a half-dead engine may never answer.
docker_on() {
    local host=$1
    shift
    DOCKER_HOST=$host timeout "${JAAS_DOCKER_TIMEOUT:-20}" "$(find_docker)" "$@"
}

# default_docker_host: the client's address without settings.
default_docker_host() {
    docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || echo unix:///var/run/docker.sock
}

# swarm_state HOST: "active true" for a manager, "inactive false" without a swarm, ...
swarm_state() {
    local state
    state=$(JAAS_DOCKER_TIMEOUT=5 docker_on "$1" info --format '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}' 2>/dev/null) &&
        [ -n "${state# *}" ] && echo "$state"
}

engine_answers() { # engine_answers [HOST]
    case $(swarm_state "${1:-$(default_docker_host)}") in [a-z]*) ;; *) return 1 ;; esac
}

ensure_engine() {
    local host
    host=${DOCKER_HOST:-$(default_docker_host)}
    if [ "$host" = "$ENGINE_HOST" ] || running_pid "$ENGINE_DIR/pid" >/dev/null; then
        use_own_engine
    elif engine_answers "$host"; then
        use_foreign_engine "$host"
    elif [ -n "${DOCKER_HOST:-}" ]; then
        die "no engine answers at DOCKER_HOST ($DOCKER_HOST)"
    else
        use_own_engine
    fi
    export DOCKER_HOST
}

use_foreign_engine() {
    DOCKER_HOST=$1
    case $(swarm_state "$1") in
        "active true") say "engine: using the swarm manager that is already running ($1)" ;;
        "active false") die -2 "the engine at $1 is a swarm worker; set DOCKER_HOST to a manager" ;;
        "inactive "*)
            say "engine: making the one that is already running a swarm of one node ($1)"
            init_swarm "$1"
            echo "$1" >"$SWARM_NOTE"
            ;;
        *) die "the swarm of the engine at $1 is not usable: $(docker_on "$1" info --format '{{.Swarm.LocalNodeState}} {{.Swarm.Error}}')" ;;
    esac
}

use_own_engine() {
    DOCKER_HOST=$ENGINE_HOST
    if running_pid "$ENGINE_DIR/pid" >/dev/null && wait_until 20 engine_answers "$ENGINE_HOST"; then
        say "engine: using our own that is already running ($ENGINE_HOST)"
    else
        start_own_engine
    fi
    # After a restart the swarm needs a moment to find its own state again.
    wait_until 30 own_swarm_settled || true
    case $(swarm_state "$ENGINE_HOST") in
        "active true") ;;
        "inactive "*) init_swarm "$ENGINE_HOST" ;;
        *) die "our engine's swarm is not usable (see $ENGINE_DIR/log); scripts/stop clears it away: $(docker_on "$ENGINE_HOST" info --format '{{.Swarm.Error}}')" ;;
    esac
}

own_swarm_settled() {
    case $(swarm_state "$ENGINE_HOST") in "active true" | "inactive "*) ;; *) return 1 ;; esac
}

init_swarm() {
    local out
    out=$(docker_on "$1" swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377 2>&1) ||
        die "swarm init failed on $1: $out"
}

start_own_engine() {
    local dockerd
    PATH=$PATH:/usr/sbin:/sbin
    is_root || die -2 "no engine answers and only root can start one; start one, or set DOCKER_HOST"
    dockerd=$(type -P dockerd) || die -2 "no engine answers and dockerd is not installed; install docker.io, or set DOCKER_HOST"
    clear_away_engine "$ENGINE_DIR"
    mkdir -p "$ENGINE_DIR"
    note_network_before
    say "engine: starting our own ($ENGINE_HOST)"
    : >"$ENGINE_DIR/log"
    # start_daemon writes the pid file; dockerd would refuse to start if it found one
    # whose number has been given to another process meanwhile, so it gets its own.
    start_daemon "$ENGINE_DIR/pid" "$ENGINE_DIR/log" "$dockerd" \
        --data-root "$ENGINE_DIR/data" --exec-root "$ENGINE_DIR/exec" \
        --host "$ENGINE_HOST" --pidfile "$ENGINE_DIR/dockerd.pid"
    wait_until 60 engine_up_or_dead || true
    engine_answers "$ENGINE_HOST" ||
        die "our engine did not start; the end of its log:"$'\n'"$(tail -n 8 "$ENGINE_DIR/log")"
}

engine_up_or_dead() { engine_answers "$ENGINE_HOST" || ! running_pid "$ENGINE_DIR/pid" >/dev/null; }

# clear_away_engine FOLDER: stops the engine if it runs, and removes what a killed engine
# leaves behind (its containers go on below their shims, and the next engine may not
# know them).
clear_away_engine() {
    stop_daemon "$1/pid" 30 || true
    kill_leftovers "$1/exec"
    unmount_below "$1/data"
    unmount_below "$1/exec"
    rm -rf "$1/exec" "$1/dockerd.pid" "$1/docker.sock"
}

# kill_leftovers EXEC_ROOT: containerd and its shims name the engine's exec root in
# their command lines; a shim's children are its containers.
kill_leftovers() {
    local pid child
    for pid in $(pids_naming "$1"); do
        if grep -qs containerd-shim "/proc/$pid/cmdline"; then
            for child in $(children_of "$pid"); do kill -KILL "$child" 2>/dev/null || true; done
        fi
        kill -KILL "$pid" 2>/dev/null || true
        wait_until 10 pid_gone "$pid" || die "left-over process $pid does not end"
    done
}

# pids_naming FOLDER: processes whose command line names something in that folder of ours.
pids_naming() {
    local dir pid
    [ -d "$1" ] || return 0
    for dir in /proc/[0-9]*; do
        pid=${dir#/proc/}
        if [ "$pid" != $$ ] && grep -qsF -- "$1/" "$dir/cmdline" && sees_same_folder "$pid" "$1"; then echo "$pid"; fi
    done
}

children_of() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }

# An engine makes bridges and sets the firewall's forward policy to DROP. Note what
# was there before, so that stop can put it back.
note_network_before() {
    local note=$ENGINE_DIR/network-before
    [ -f "$note" ] && return
    {
        for bridge in docker0 docker_gwbridge; do
            [ -e "/sys/class/net/$bridge" ] && echo "bridge $bridge"
        done
        iptables -S FORWARD 2>/dev/null | head -n 1
    } >"$note" || true
}

restore_network() {
    local note=$ENGINE_DIR/network-before bridge
    [ -f "$note" ] || return 0
    for bridge in docker0 docker_gwbridge; do
        grep -qx "bridge $bridge" "$note" || ip link delete "$bridge" 2>/dev/null || true
    done
    if grep -qx -- '-P FORWARD ACCEPT' "$note"; then iptables -P FORWARD ACCEPT; fi
}

stop_engine() {
    leave_swarm_we_made
    [ -d "$ENGINE_DIR" ] || return 0
    if running_pid "$ENGINE_DIR/pid" >/dev/null; then say "engine: stopping our own"; fi
    clear_away_engine "$ENGINE_DIR"
    restore_network
    rm -rf --one-file-system "$ENGINE_DIR"
}

leave_swarm_we_made() {
    local host
    host=$(cat "$SWARM_NOTE" 2>/dev/null) || return 0
    if [ -n "$(docker_on "$host" service ls --quiet 2>/dev/null)" ]; then
        say "engine: $host keeps its swarm, as services are still running on it"
    elif docker_on "$host" swarm leave --force >/dev/null 2>&1; then
        say "engine: $host has left the swarm that we made"
    fi
    rm -f "$SWARM_NOTE"
}
