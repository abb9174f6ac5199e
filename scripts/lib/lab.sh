# shellcheck shell=bash
# A swarm of three managers on one machine. Each node is a network namespace on one
# bridge, with an engine of its own; they share the machine's file system. Needs root.
#
#   host 10.99.0.1 --- jaasbr0 --- jaasv1 ~ node1 10.99.0.11
#                            +---- jaasv2 ~ node2 10.99.0.12
#                            +---- jaasv3 ~ node3 10.99.0.13

# JAAS_LAB=NAME makes another lab beside it, with names and a network of its own. JAAS_LAB_NODES="1" makes one
# with fewer nodes, JAAS_LAB_ENGINE=RELEASE one with the engines of another Debian release (lib/engines.sh).

LAB_NAME=${JAAS_LAB:-}
# The names of network interfaces may have 15 characters.
case $LAB_NAME in *[!a-z0-9]* | ????????*) die -2 "JAAS_LAB must be at most 7 small letters and digits: $LAB_NAME" ;; esac
LAB=${JAAS_LAB_DIR:-/var/tmp/jaas-lab${LAB_NAME:+-$LAB_NAME}}
LAB_NODES=${JAAS_LAB_NODES:-1 2 3}
LAB_PREFIX=jaas$LAB_NAME
LAB_BRIDGE=${LAB_PREFIX}br0
LAB_CGROUP=jaaslab$LAB_NAME

# lab_net: the first three numbers of the lab's addresses.
lab_net() {
    if [ -n "${JAAS_LAB_NET:-}" ]; then
        echo "$JAAS_LAB_NET"
    elif [ -n "$LAB_NAME" ]; then
        echo "10.98.$(($(printf %s "$LAB_NAME" | cksum | cut -d ' ' -f 1) % 256))"
    else
        echo 10.99.0
    fi
}

LAB_NET=$(lab_net)

node_dir() { echo "$LAB/n$1"; }
node_ip() { echo "$LAB_NET.1$1"; }
node_host() { echo "unix://$LAB/n$1/docker.sock"; }
on_node() { # on_node N ARGUMENTS: that node's engine, with a deadline
    local n=$1
    shift
    docker_on "$(node_host "$n")" "$@"
}

lab_size() { echo "$LAB_NODES" | wc -w; }

# --- network ---

lab_network() {
    if [ ! -e /sys/class/net/$LAB_BRIDGE ]; then
        say "lab: making the bridge $LAB_BRIDGE ($LAB_NET.1)"
        ip link add $LAB_BRIDGE type bridge
        ip address add "$LAB_NET.1/24" dev $LAB_BRIDGE
    fi
    ip link set $LAB_BRIDGE up
    # An engine on the host drops what is forwarded, and bridged frames count as that.
    iptables -C FORWARD -i $LAB_BRIDGE -o $LAB_BRIDGE -j ACCEPT 2>/dev/null ||
        iptables -I FORWARD -i $LAB_BRIDGE -o $LAB_BRIDGE -j ACCEPT
}

node_network() {
    local n=$1 ns=$LAB_PREFIX$1 veth=${LAB_PREFIX}v$1
    if [ ! -e "/run/netns/$ns" ]; then
        ip netns add "$ns"
        ip link delete "$veth" 2>/dev/null || true
        ip link add "$veth" type veth peer name eth0 netns "$ns"
        ip link set "$veth" master $LAB_BRIDGE
        ip -n "$ns" address add "$(node_ip "$n")/24" dev eth0
        ip -n "$ns" link set lo up
        ip -n "$ns" link set eth0 up
    fi
    ip link set "$veth" up
    ip -n "$ns" route replace default via "$LAB_NET.1"
}

# --- a node's machine: the namespaces that its engine lives in ---

# ensure_holder N: a process that does nothing but hold the node's namespaces. They must
# outlive the engine: an engine that was killed and is started again looks for its
# containers' shims by sockets below /run.
ensure_holder() {
    local n=$1 dir
    dir=$(node_dir "$n")
    running_pid "$dir/holder.pid" >/dev/null && [ -e "$dir/ready" ] && return
    rm -f "$dir/ready"
    mkdir -p "$dir/cgroup"
    echo "nameserver 127.0.0.1" >"$dir/resolv.conf" # so that look-ups fail at once
    start_daemon "$dir/holder.pid" "$dir/holder.log" \
        nsenter --net="/run/netns/$LAB_PREFIX$n" unshare --mount --uts \
        "$LIB/lab-node" "$dir" "node$n" "$(cat "$LAB/usr" 2>/dev/null)"
    wait_until 10 test -e "$dir/ready" || die "node$n: no namespaces: $(tail -n 3 "$dir/holder.log")"
}

# --- engines ---

start_node() {
    local n=$1 dir dockerd
    dir=$(node_dir "$n")
    node_network "$n"
    ensure_holder "$n"
    if running_pid "$dir/pid" >/dev/null; then return; fi
    say "lab: starting node$n's engine"
    if [ -e "$LAB/usr" ]; then
        dockerd=/usr/sbin/dockerd # in the node's mount namespace
    else
        PATH=$PATH:/usr/sbin:/sbin
        dockerd=$(type -P dockerd) || die -2 "dockerd is not installed: apt-get install docker.io"
    fi
    rm -f "$dir/dockerd.pid" "$dir/docker.sock"
    # Dies with a killed dockerd, but as a zombie it would count as running.
    running_pid "$dir/exec/containerd/containerd.pid" >/dev/null || rm -f "$dir/exec/containerd/containerd.pid"
    node_generic >"$dir/daemon.json"
    # nsenter leaves the working directory, but the command line names the folder.
    start_daemon "$dir/pid" "$dir/log" \
        nsenter --target "$(cat "$dir/holder.pid")" --mount --uts --net \
        "$dockerd" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
        --config-file "$dir/daemon.json" --host "$(node_host "$n")" --host unix:///run/docker.sock --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "$LAB_CGROUP$n"
}

# node_generic: the engine's configuration file, with the generic resources that JAAS_LAB_GENERIC names (two GPUs).
node_generic() {
    local one list=""
    for one in ${JAAS_LAB_GENERIC-gpu=one gpu=two}; do list="$list${list:+, }\"$one\""; done
    echo "{\"node-generic-resources\": [$list]}"
}

wait_for_node() {
    wait_until 60 node_up_or_dead "$1" || true
    engine_answers "$(node_host "$1")" ||
        die "node$1's engine did not start; the end of its log:"$'\n'"$(tail -n 8 "$(node_dir "$1")/log")"
}

node_up_or_dead() { engine_answers "$(node_host "$1")" || ! running_pid "$(node_dir "$1")/pid" >/dev/null; }

# --- swarm ---

join_swarm() {
    local n token
    if [ "$(swarm_state "$(node_host 1)")" = "inactive false" ]; then
        say "lab: making a swarm"
        on_node 1 swarm init --advertise-addr "$(node_ip 1)" >/dev/null
    fi
    for n in $LAB_NODES; do
        if [ "$(swarm_state "$(node_host "$n")")" = "inactive false" ]; then
            token=$(on_node 1 swarm join-token --quiet manager)
            on_node "$n" swarm join --token "$token" --advertise-addr "$(node_ip "$n")" "$(node_ip 1):2377" >/dev/null
        fi
    done
}

# lab_is_whole: every node's engine is a manager, and the swarm has them all as ready.
lab_is_whole() {
    local n
    for n in $LAB_NODES; do
        [ "$(swarm_state "$(node_host "$n")")" = "active true" ] || return 1
    done
    [ "$(on_node 1 node ls --format '{{.Status}} {{.ManagerStatus}}' 2>/dev/null | grep -cE '^Ready (Leader|Reachable)')" -eq "$(lab_size)" ]
}

undrain() {
    local node
    on_node 1 node ls --format '{{.Availability}} {{.ID}}' | grep -v '^Active' | while read -r _ node; do
        on_node 1 node update --availability active "$node" >/dev/null
    done || true
}

# --- images ---

# load_images: those of the one-node engine, to every node that lacks one of them.
load_images() {
    local n lacking="" pids="" pid wanted
    wanted=$(image_ids "$DOCKER_HOST")
    for n in $LAB_NODES; do
        [ "$(image_ids "$(node_host "$n")")" = "$wanted" ] || lacking="$lacking $n"
    done
    if [ -z "$lacking" ]; then return; fi
    say "lab: loading the images to the nodes$lacking"
    # shellcheck disable=SC2086  # a list of names
    docker save --output "$LAB/images.tar" $JAAS_IMAGES
    for n in $lacking; do
        DOCKER_HOST=$(node_host "$n") docker load --quiet --input "$LAB/images.tar" >/dev/null &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid" || die "an image could not be loaded"; done
    rm -f "$LAB/images.tar"
}

image_ids() {
    # shellcheck disable=SC2086  # a list of names
    docker_on "$1" image inspect --format '{{.Id}}' $JAAS_IMAGES 2>/dev/null || true
}

# --- the whole lab ---

lab_up() {
    is_root || die -2 "the lab needs root (network namespaces and engines)"
    make_folder "$LAB" JAAS_LAB_DIR
    lock "$LAB"
    choose_engine
    lab_once
    # A node that was cut off for a while needs up to half a minute.
    if ! wait_until 90 lab_is_whole; then
        say "lab: the swarm does not come together again, making a new one"
        lab_clear
        mkdir -p "$LAB"
        choose_engine
        lab_once
        wait_until 40 lab_is_whole || die "the nodes do not form a swarm; see $LAB/n1/log"
    fi
    undrain
    load_images
    unlock
    say "lab: $(lab_size) managers are ready"
}

# choose_engine: notes whose /usr the nodes have. A lab that is up keeps the engine that it was made with.
choose_engine() {
    if [ -n "${JAAS_LAB_ENGINE:-}" ] && [ ! -d "$(node_dir 1)" ]; then
        ensure_engine_of "$JAAS_LAB_ENGINE"
        engine_usr "$JAAS_LAB_ENGINE" >"$LAB/usr"
    fi
}

lab_once() {
    local n
    lab_network
    for n in $LAB_NODES; do start_node "$n"; done
    for n in $LAB_NODES; do wait_for_node "$n"; done
    join_swarm
}

lab_down() {
    is_root || die -2 "the lab needs root"
    if [ ! -d "$LAB" ] && [ ! -e /sys/class/net/$LAB_BRIDGE ]; then
        say "lab: nothing is running"
        return
    fi
    lock "$LAB"
    lab_clear
    rm -f "$LAB.lock"
    unlock
    say "lab: gone"
}

lab_clear() {
    local n pid
    say "lab: stopping the nodes"
    for n in $LAB_NODES; do # all at once; clear_away_engine waits for each
        if pid=$(running_pid "$(node_dir "$n")/pid"); then kill -TERM "$pid"; fi
    done
    for n in $LAB_NODES; do
        clear_away_engine "$(node_dir "$n")"
        stop_daemon "$(node_dir "$n")/holder.pid" || true
        ip netns delete "$LAB_PREFIX$n" 2>/dev/null || true
        ip link delete "${LAB_PREFIX}v$n" 2>/dev/null || true
        remove_cgroups "$LAB_CGROUP$n"
    done
    ip link delete $LAB_BRIDGE 2>/dev/null || true
    iptables -D FORWARD -i $LAB_BRIDGE -o $LAB_BRIDGE -j ACCEPT 2>/dev/null || true
    unmount_below "$LAB"
    rm -rf --one-file-system "$LAB"
}

remove_cgroups() {
    find /sys/fs/cgroup -depth -type d \( -path "*/$1" -o -path "*/$1/*" \) -exec rmdir {} \; 2>/dev/null || true
}

lab_status() {
    local n engine link
    printf '%-6s %-14s %-5s %-16s %s\n' NODE ENGINE LINK SWARM HOST
    for n in $LAB_NODES; do
        engine=$(running_pid "$(node_dir "$n")/pid") && engine="pid $engine" || engine="not running"
        link=$(cat "/sys/class/net/${LAB_PREFIX}v$n/operstate" 2>/dev/null) || link="-"
        printf '%-6s %-14s %-5s %-16s %s\n' "node$n" "$engine" "$link" \
            "$(swarm_state "$(node_host "$n")" || echo -)" "$(node_host "$n")"
    done
    for n in $LAB_NODES; do
        on_node "$n" node ls 2>/dev/null && return
    done
    say "lab: no node answers as a manager"
}

lab_env() {
    local n hosts=""
    for n in $LAB_NODES; do hosts="$hosts $(node_host "$n")"; done
    echo "export JAAS_LAB_HOSTS='${hosts# }'"
    echo "export JAAS_LAB_NET='$LAB_NET'"
}

# --- faults ---

lab_partition() {
    ip link set "${LAB_PREFIX}v$1" down
    say "lab: node$1 is cut off from the others"
}

lab_heal() {
    ip link set "${LAB_PREFIX}v$1" up
    say "lab: node$1 is connected again"
}

# lab_kill N: the engine only; its containers live on, as they would on a real machine.
lab_kill() {
    local pid
    pid=$(running_pid "$(node_dir "$1")/pid") || die "node$1's engine is not running"
    kill -KILL "$pid"
    wait_until 10 pid_gone "$pid" || die "node$1's engine does not end"
    say "lab: killed node$1's engine (pid $pid)"
}

lab_stop() {
    stop_daemon "$(node_dir "$1")/pid" 60 || die "node$1's engine is not running"
    say "lab: stopped node$1's engine"
}

# lab_upgrade N RELEASE: the same data below another engine. Returns before it answers: this machine's client may be
# too old for it.
lab_upgrade() {
    ensure_engine_of "$2"
    lab_stop "$1"
    stop_daemon "$(node_dir "$1")/holder.pid" || true
    engine_usr "$2" >"$LAB/usr"
    start_node "$1"
}

lab_start() {
    start_node "$1"
    wait_for_node "$1"
    say "lab: node$1's engine answers"
}
