# shellcheck shell=bash
# Functions for all scripts: messages, the state folder, waiting, starting and
# stopping processes. Sourced, never run.
#
# The state folder (JAAS_STATE_DIR) holds everything that these scripts start:
# pid files, logs, sockets and data. The scripts only touch what is in there, and no
# engine or Redis that was running before.

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
STATE=${JAAS_STATE_DIR:-/var/tmp/jaas}
VENV=${JAAS_VENV:-$REPO/.venv}
# shellcheck disable=SC2034  # read by the scripts that source this file
readonly REPO STATE VENV

say() { printf '==> %s\n' "$*"; }

# die [-EXIT_CODE] MESSAGE: 2 = something is missing on the machine, 1 = a step failed.
die() {
    local code=1
    case $1 in -[0-9]*) code=${1#-}; shift ;; esac
    printf 'error: %s\n' "$*" >&2
    exit "$code"
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# make_folder FOLDER NAME_OF_ITS_SETTING. A socket's path may have 107 characters; the
# engine adds about 45 to ours.
make_folder() {
    case $1 in /*) ;; *) die -2 "$2 must be an absolute path, not '$1'" ;; esac
    [ ${#1} -le 60 ] || die -2 "$2 is longer than 60 characters (sockets would not fit): $1"
    mkdir -p "$1"
}

# lock FOLDER: one set-up or stop at a time; a second one waits here for the first. The
# lock is a file beside the folder, because stop deletes the folder. Daemons must not
# inherit it: start_daemon closes descriptor 9.
lock() {
    mkdir -p "$(dirname "$1")"
    while :; do
        exec 9>"$1.lock"
        flock -n 9 || { say "lock: waiting for another script that is using $1"; flock 9; }
        # Did the one before us delete the file that we were waiting for?
        [ "$1.lock" -ef /proc/self/fd/9 ] && return
    done
}

unlock() { exec 9>&-; }

# wait_until SECONDS COMMAND...: polls until the command succeeds; 1 at the deadline.
wait_until() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

pid_alive() { # a zombie is not alive
    local state
    state=$(sed 's/.*) \(.\).*/\1/' "/proc/$1/stat" 2>/dev/null) && [ "$state" != Z ]
}

pid_gone() { ! pid_alive "$1"; }

# pid_is_ours PID FOLDER: its command line or its working directory names our folder.
# A pid file can outlive its process and the number can be given to another one, so
# nothing is signalled before this has been asked.
pid_is_ours() {
    local pid=$1 folder=$2 cwd
    pid_alive "$pid" && sees_same_folder "$pid" "$folder" || return 1
    cwd=$(readlink "/proc/$pid/cwd" 2>/dev/null) || cwd=
    case $cwd/ in "$folder"/*) return 0 ;; esac
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$folder/"
}

# sees_same_folder PID FOLDER: a process in another container or chroot may have a folder
# of the same name, and is then somebody else's.
sees_same_folder() { [ "/proc/$1/root$2" -ef "$2" ]; }

# running_pid PIDFILE: prints the pid if that process is alive and of the pid file's folder.
running_pid() {
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    pid_is_ours "$pid" "$(dirname "$1")" && echo "$pid"
}

# start_daemon PIDFILE LOGFILE COMMAND...: in its own session, so that Ctrl-C in this
# terminal does not reach it; its working directory is the pid file's folder, by
# which running_pid knows it again.
start_daemon() {
    local pidfile=$1 logfile=$2 dir
    shift 2
    dir=$(dirname "$pidfile")
    mkdir -p "$dir"
    (cd "$dir" && exec setsid "$@" </dev/null >>"$logfile" 2>&1 9>&-) &
    echo $! >"$pidfile"
    wait_until 10 ours_or_gone $! "$dir" || true
    disown $! 2>/dev/null || true
}

ours_or_gone() { pid_is_ours "$1" "$2" || pid_gone "$1"; }

# stop_pid PID SECONDS: SIGTERM, then SIGKILL at the deadline; returns when it is gone.
stop_pid() {
    kill -TERM "$1" 2>/dev/null || return 0
    wait_until "$2" pid_gone "$1" && return
    kill -KILL "$1" 2>/dev/null || return 0
    wait_until 10 pid_gone "$1" || die "process $1 does not end, not even by SIGKILL"
}

# stop_daemon PIDFILE [SECONDS]: 0 if something was stopped, 1 if there was nothing.
stop_daemon() {
    local pid
    pid=$(running_pid "$1") || { rm -f "$1"; return 1; }
    stop_pid "$pid" "${2:-20}"
    rm -f "$1"
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() { # free_port FIRST: the first port from there on that nobody listens on
    local port=$1
    until port_is_free "$port"; do port=$((port + 1)); done
    echo "$port"
}

# unmount_below FOLDER: whatever a killed engine left mounted on it or in it, deepest first.
unmount_below() {
    local target
    awk -v folder="$1" '$5 == folder || index($5, folder "/") == 1 { print $5 }' /proc/self/mountinfo | sort -r |
        while read -r target; do umount "$target" 2>/dev/null || umount -l "$target"; done
}

# write_env: what a developer's shell, or the tests, need to reach what is running.
write_env() {
    {
        echo "# written by scripts/up; use: . $STATE/env"
        printf 'export JAAS_REDIS_URL=%q\n' "$JAAS_REDIS_URL"
        printf 'export DOCKER_HOST=%q\n' "$DOCKER_HOST"
    } >"$STATE/env"
}
