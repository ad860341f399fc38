#!/bin/sh
# Installs a Pendra worker on this host, in containers (default) or natively: `sh ops/install.sh --help`.
# Exit status: 0 done, 2 wrong usage, 3 something is missing (each with its fix), 4 it would overwrite a configuration.
set -eu

usage() {
    cat <<'END'
usage: install.sh [options]         asks what is not given
  --key KEY | --key-file FILE   worker key from the Pendra console (better a file: arguments show in `ps`)
  --local-api                   no key: run a local stand-in for the Pendra API
  --backends LIST               of ollama,vllm,lmstudio,speaches; `auto` = look for all (default), `none`
  --models LIST                 models to install and load, like smollm2:135m
  --build cuda|rocm|vulkan|metal|cpu   how llama.cpp is built (default: what this host has)
  --monitoring                  with Prometheus and Grafana
  --native                      no containers: a virtual environment, and systemd units where root runs this
  --non-interactive             ask nothing
  --no-start                    write the configuration, start nothing
  --dry-run                     say what would be done, do nothing
  --upgrade                     build anew and restart what is installed; nothing of the configuration changes
  --uninstall                   stop and remove it; models, keys and configuration stay
END
}

here=$(cd "$(dirname "$0")/.." && pwd)
key='' backends='' models='' build='' mode=install
native=no ask=yes start=yes dry=no local_api=no monitoring=no
secrets=${PENDRA_SECRETS:-$here/secrets}
env_file=${PENDRA_ENV_FILE:-$here/.env}
min_compose=2.20

say() { printf '%s\n' "$*"; }
wrong() { printf 'install.sh: %s\n' "$*" >&2; exit 2; }
have() { command -v "$1" >/dev/null 2>&1; }

# ------------------------------------------------------------------ options

value() { [ $# -ge 2 ] || wrong "$1 needs a value"; }
while [ $# -gt 0 ]; do
    case $1 in
        --*=*) option=${1%%=*} rest=${1#*=}; shift; set -- "$option" "$rest" "$@"; continue ;;
    esac
    case $1 in
        --key) value "$@"; key=$2; shift ;;
        --key-file) value "$@"; [ -r "$2" ] || wrong "--key-file $2 cannot be read"; key=$(cat "$2"); shift ;;
        --backends) value "$@"; backends=$2; shift ;;
        --models) value "$@"; models=$2; shift ;;
        --build) value "$@"; build=$2; shift ;;
        --local-api) local_api=yes ;;
        --monitoring) monitoring=yes ;;
        --native) native=yes ;;
        --non-interactive) ask=no ;;
        --no-start) start=no ;;
        --dry-run) dry=yes ;;
        --upgrade) mode=upgrade ;;
        --uninstall) mode=uninstall ;;
        -h|--help) usage; exit 0 ;;
        *) wrong "there is no option $1; --help lists them" ;;
    esac
    shift
done
case $build in ''|cuda|rocm|vulkan|metal|cpu) ;; *) wrong "--build $build: cuda, rocm, vulkan, metal or cpu" ;; esac
check_lists() {
    for one in $(printf %s "$backends" | tr , ' '); do
        case $one in auto|none|ollama|vllm|lmstudio|speaches) ;;
            *) wrong "--backends $one: ollama, vllm, lmstudio, speaches, auto or none" ;; esac
    done
    case $models in *[!A-Za-z0-9._:,/@-]*) wrong "--models $models: ids joined by commas" ;; esac
}
check_lists

# ------------------------------------------------------------------ what this host is

system=$(uname -s)
gpu=none
if have nvidia-smi && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then gpu=nvidia; fi
[ "$system" = Darwin ] && gpu=metal
[ -n "$build" ] || case $gpu in nvidia) build=cuda ;; metal) build=metal ;; *) build=cpu ;; esac
case $build in rocm|vulkan|metal)
    [ "$native" = yes ] || say "note: containers here run on CUDA or CPUs; --build $build is installed natively"
    native=yes ;;
esac

missing=0
need() { # what, then the line that mends it
    [ $missing = 0 ] && say "missing on this host:" >&2
    missing=1
    printf '  %s\n      fix: %s\n' "$1" "$2" >&2
}
package() { # the line that installs a package: names for apt, dnf, zypper, pacman, brew
    if have apt-get; then say "sudo apt-get update && sudo apt-get install -y $1"
    elif have dnf; then say "sudo dnf install -y $2"
    elif have zypper; then say "sudo zypper install -y $3"
    elif have pacman; then say "sudo pacman -S --needed $4"
    elif have brew; then say "brew install $5"
    else say "install $1 with this system's package manager"; fi
}
older() { # whether version $1 is older than $2 (major.minor)
    [ "${1%%.*}" -lt "${2%%.*}" ] && return 0
    [ "${1%%.*}" -gt "${2%%.*}" ] && return 1
    minor=${1#*.}; [ "${minor%%.*}" -lt "${2#*.}" ]
}

check_docker() {
    if ! have docker; then
        if [ "$system" = Darwin ]; then need "Docker" "brew install --cask docker, or leave --build cpu out to run natively"
        else need "Docker Engine" "curl -fsSL https://get.docker.com | sudo sh"; fi
        return
    fi
    if ! info=$(docker info --format '{{json .SecurityOptions}} {{json .Runtimes}}' 2>&1); then
        case $info in
            *ermission*denied*) need "this user may not talk to Docker" "sudo usermod -aG docker $(id -un), then log in anew (or run this with sudo)" ;;
            *) need "the Docker engine does not run" "sudo systemctl enable --now docker" ;;
        esac
        info=''
    fi
    version=$(docker compose version --short 2>/dev/null | sed 's/^v//' || true)
    case $version in
        [0-9]*.*) if older "$version" $min_compose; then need "Docker Compose $min_compose or newer (here: $version)" "$(package docker-compose-plugin docker-compose-plugin docker-compose docker-compose docker-compose)"; fi ;;
        *) if have docker-compose; then old=" (docker-compose is version 1, which cannot read our file)"; else old=''; fi
           need "Docker Compose v2, the plugin$old" "$(package docker-compose-plugin docker-compose-plugin docker-compose docker-compose docker-compose)" ;;
    esac
    [ "$build" = cuda ] && [ -n "$info" ] && check_toolkit
    return 0
}
check_toolkit() {
    case $info in
        *'"nvidia"'*) ;;
        *) if have nvidia-ctk; then
               need "Docker does not know the NVIDIA runtime" "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
           else
               need "the NVIDIA Container Toolkit (its packages: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit)" \
                   "$(package nvidia-container-toolkit nvidia-container-toolkit nvidia-container-toolkit nvidia-container-toolkit -) && sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"
           fi
           return ;;
    esac
    case $info in *rootless*)
        config=${NVIDIA_CONFIG:-/etc/nvidia-container-runtime/config.toml}
        grep -Eq '^ *no-cgroups *= *true' "$config" 2>/dev/null || need "rootless Docker cannot give GPUs to containers yet" \
            "sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place && systemctl --user restart docker" ;;
    esac
}
check_native() {
    if ! have python3; then need "Python 3.11 or newer" "$(package 'python3 python3-venv' python3.11 python311 python python@3.12)"
    elif ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then need "Python 3.11 or newer (here: $(python3 -V 2>&1))" "$(package 'python3.11 python3.11-venv' python3.11 python311 python python@3.12)"
    elif ! python3 -c 'import ensurepip, venv' 2>/dev/null; then need "Python's venv module" "$(package python3-venv python3 python3 python python@3.12)"; fi
    have cc || need "a C and C++ compiler (llama.cpp is compiled where no ready wheel fits)" "$(package build-essential 'gcc gcc-c++ make' 'gcc gcc-c++ make' base-devel -)"
    [ "$build" != cuda ] || [ $gpu = nvidia ] || need "an NVIDIA GPU with its driver (nvidia-smi shows none)" "install the NVIDIA driver, or use --build cpu"
    [ "$build" != metal ] || [ "$system" = Darwin ] || need "macOS: Metal is nowhere else" "use --build cpu, cuda, rocm or vulkan"
    [ "$build" != rocm ] || have hipcc || need "ROCm's compiler hipcc" "https://rocm.docs.amd.com/projects/install-on-linux"
    [ "$build" != vulkan ] || have glslc || need "the Vulkan shader compiler glslc" "$(package 'glslc libvulkan-dev' 'glslc vulkan-loader-devel' 'shaderc vulkan-devel' 'shaderc vulkan-headers' shaderc)"
}

if [ "$native" = yes ]; then check_native; else
    if [ "$build" = cuda ] && [ $gpu = none ]; then need "an NVIDIA GPU with its driver (nvidia-smi shows none)" "install the NVIDIA driver, or use --build cpu"; fi
    check_docker
fi
if [ $missing = 1 ]; then
    if [ $dry = no ]; then say "nothing was changed; run this again afterwards" >&2; exit 3; fi
fi
way='in containers'; [ "$native" = yes ] && way=natively
say "host: $system $(uname -m), GPU: $gpu; $mode $way, llama.cpp for $build"

# ------------------------------------------------------------------ doing, or saying what would be done

run() { if [ $dry = yes ]; then say "would run: $*"; else "$@"; fi; }
compose() { (cd "$here" && run docker compose --env-file "$env_file" "$@"); }
question() { # words; the answer goes to stdout, what is typed after "key" is not shown
    [ "$ask" = yes ] && [ -t 0 ] || return 0
    printf '%s: ' "$1" >&2
    [ "${2:-}" != key ] || stty -echo
    IFS= read -r answer || answer=''
    [ "${2:-}" != key ] || { stty echo; echo >&2; }
    printf %s "$answer"
}
random() { head -c 32 /dev/urandom | base64 | tr -d '\n'; }
random_word() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }

secret() { # name, value: never replaces what is there
    if [ -e "$secrets/$1" ]; then return 0; fi
    if [ $dry = yes ]; then say "would write: $secrets/$1"; return 0; fi
    mkdir -p "$secrets"; chmod 0700 "$secrets"
    (umask 077; printf '%s\n' "$2" >"$secrets/$1.new"; chmod 0444 "$secrets/$1.new"; mv "$secrets/$1.new" "$secrets/$1")
    say "wrote $secrets/$1"
}
setting() { # name, value: never replaces what is there
    if [ -e "$env_file" ] && grep -q "^$1=" "$env_file"; then
        grep -qx "$1=$2" "$env_file" || say "kept: $(grep "^$1=" "$env_file") in $env_file (asked: $2); edit it there to change it"
        return 0
    fi
    if [ $dry = yes ]; then say "would add to $env_file: $1=$2"; return 0; fi
    (umask 077; printf '%s=%s\n' "$1" "$2" >>"$env_file")
}

worker_service() { # what was installed counts more than what is found now
    if [ -e "$env_file" ] && grep -q '^PENDRA_GPU_WORKERS=' "$env_file"; then
        if grep -qx 'PENDRA_GPU_WORKERS=0' "$env_file"; then echo worker-cpu; else echo worker; fi
    elif [ "$build" = cuda ]; then echo worker; else echo worker-cpu; fi
}
profiles() {
    list=''
    [ "$build" = cuda ] || list=cpu
    [ "$monitoring" = no ] || list=$list${list:+,}monitoring
    [ "$local_api" = no ] || list=$list${list:+,}local-api
    echo "$list"
}
off_unless_asked() { # setting, backend
    case ,${backends:-auto}, in *,auto,*|*,"$2",*) ;; *) setting "$1" off ;; esac
}

ask_all() {
    if [ -z "$key" ] && [ "$local_api" = no ] && [ ! -e "$secrets/worker_key" ]; then
        key=$(question "Worker key from the Pendra console (empty: a local API on this host)" key)
        [ -n "$key" ] || { [ "$ask" = yes ] && [ -t 0 ] && local_api=yes; } || wrong "no worker key: give --key-file FILE, or --local-api"
    fi
    [ -n "$backends" ] || backends=$(question "Other servers to use: ollama,vllm,lmstudio,speaches, none (empty: look for all)")
    [ -n "$models" ] || models=$(question "Models to install, like smollm2:135m (empty: later)")
}
check_key() {
    [ -n "$key" ] || return 0
    if [ ${#key} != 44 ] || ! printf %s "$key" | grep -Eq '^[A-Za-z0-9+/]{43}=$'; then
        wrong "the worker key is not one: 32 bytes in base64 (44 characters) are needed, as the console shows it"
    fi
    if [ -e "$secrets/worker_key" ] && [ "$(cat "$secrets/worker_key")" != "$key" ]; then
        say "install.sh: $secrets/worker_key holds another key and is not overwritten; remove it first" >&2
        exit 4
    fi
}

write_all() {
    password=$(random_word)
    if [ "$local_api" = yes ] && [ -z "$key" ]; then key=$(random); fi
    secret worker_key "$key"
    secret fleet_key "$(random)"
    if [ ! -e "$secrets/redis_url" ]; then
        secret redis_acl "user default off
user pendra on >$password ~* &* +@all -@admin -@dangerous +info +config|get"
        secret redis_url "redis://pendra:$password@redis:6379/0"
    fi
    secret flower_auth "pendra:$(random_word)"
    secret grafana_password "$(random_word)"
    setting COMPOSE_PROFILES "$(profiles)"
    if [ "$build" = cuda ]; then setting PENDRA_GPU_WORKERS 1; else setting PENDRA_GPU_WORKERS 0; fi
    [ "$local_api" = no ] || setting APP_SERVER_WS_URL ws://controlplane:8080
    [ -z "$models" ] || setting PENDRA_PRELOAD "$models"
    off_unless_asked OLLAMA_ENDPOINT ollama
    off_unless_asked VLLM_ENDPOINT vllm
    off_unless_asked LMSTUDIO_ENDPOINT lmstudio
    off_unless_asked SPEACHES_ENDPOINT speaches
}

# Named one by one, so that a host without a GPU never builds the CUDA image.
services() {
    list="redis bridge flower $(worker_service)"
    profiles=,$(profiles),
    [ ! -e "$env_file" ] || profiles=,$(sed -n 's/^COMPOSE_PROFILES=//p' "$env_file"),
    case $profiles in *,monitoring,*) list="$list prometheus grafana" ;; esac
    case $profiles in *,local-api,*) list="$list controlplane" ;; esac
    echo "$list"
}
up() {
    # shellcheck disable=SC2046  # a list of words
    compose up -d --wait --wait-timeout 300 $(services)
}
start_all() {
    service=$(worker_service)
    compose build bridge "$service"
    compose run --rm --no-deps "$service" sh -c 'pendra keys fingerprint >/dev/null 2>&1 || pendra keys rotate'
    up
    if [ "$local_api" = yes ]; then enrol; fi
    for model in $(printf %s "$models" | tr , ' '); do compose exec -T "$service" pendra models install "$model"; done
    [ $dry = yes ] || say "running: docker compose ps; Flower: http://127.0.0.1:5555, user and password in $secrets/flower_auth"
}
enrol() {
    if [ $dry = yes ]; then say "would run: docker compose exec controlplane pendra identities enrol …"; return 0; fi
    public=$(compose run --rm --no-deps -T bridge pendra keys show | sed -n 's/^worker public key *//p')
    compose exec -T controlplane pendra identities enrol "$public" --name "$(uname -n)"
    say "local API: http://127.0.0.1:8080, its key: docker compose exec controlplane cat /var/lib/pendra/api-key"
}

# ------------------------------------------------------------------ without containers

prefix=${PENDRA_PREFIX:-$([ "$(id -u)" = 0 ] && echo /opt/pendra || echo "$HOME/.local/share/pendra")}
units=${PENDRA_UNITS:-/etc/systemd/system}
systemd() { [ "$system" = Linux ] && [ "$(id -u)" = 0 ] && have systemctl; }

native_install() {
    [ -x "$prefix/bin/python" ] || run python3 -m venv "$prefix"
    wheels=$(cd "$here" && python3 -m ops.wheels "$build") || exit 3
    say "$wheels" | while IFS= read -r line; do say "  $line"; done
    if [ $dry = yes ]; then say "would run: pip install llama-cpp-python and $here into $prefix"; else
        (cd "$here" && PENDRA_PIP="$prefix/bin/python" python3 -m ops.wheels "$build" --install ${1:+"$1"})
        "$prefix/bin/python" -m pip install --quiet --disable-pip-version-check ${1:+"$1"} "$here"
    fi
    if systemd; then native_units; else native_setup; fi
}
native_setup() {
    config=${PENDRA_HOME:-$HOME/.pendra}/config.yaml
    if [ -e "$config" ]; then say "kept $config"
    elif [ -n "$key" ]; then
        if [ $dry = yes ]; then say "would run: $prefix/bin/pendra setup --key-file - --non-interactive"
        else printf %s "$key" | "$prefix/bin/pendra" setup --key-file - --non-interactive; fi
    fi
    for model in $(printf %s "$models" | tr , ' '); do run "$prefix/bin/pendra" models install "$model"; done
    say "installed: $prefix/bin/pendra up runs everything here; docs/install.md has the fleet's commands"
}
native_units() {
    id pendra >/dev/null 2>&1 || run useradd --system --create-home --home-dir /var/lib/pendra --shell /usr/sbin/nologin pendra
    for unit in "$here"/ops/systemd/*.service; do
        run install -m 0644 "$unit" "$units/$(basename "$unit")"
    done
    if [ -n "$key" ] && [ ! -e /etc/pendra/worker_key ]; then
        if [ $dry = yes ]; then say "would write: /etc/pendra/worker_key"; else
            install -d -m 0700 /etc/pendra
            (umask 077; printf '%s\n' "$key" >/etc/pendra/worker_key)
        fi
    fi
    run systemctl daemon-reload
    [ $start = no ] || run systemctl enable --now pendra-worker.service
    say "units: pendra-worker (running), pendra-bridge, pendra-flower, pendra-controlplane; docs/install.md says what each needs"
}
native_uninstall() {
    if systemd; then
        for unit in "$here"/ops/systemd/*.service; do
            name=$(basename "$unit")
            [ ! -e "$units/$name" ] || { run systemctl disable --now "$name"; run rm -f "$units/$name"; }
        done
        run systemctl daemon-reload
    fi
    run rm -rf "$prefix"
    say "removed; models, keys and configuration stay in ${PENDRA_HOME:-/var/lib/pendra or ~/.pendra} and /etc/pendra"
}

# ------------------------------------------------------------------ go

case $mode-$native in
    install-no) ask_all; check_lists; check_key; write_all; if [ $start = yes ]; then start_all; else say "configured; start it with: docker compose up -d"; fi ;;
    install-yes) [ -n "$key" ] || key=$(question "Worker key from the Pendra console (empty: only this machine)" key)
        check_key; native_install ;;
    upgrade-no) [ -e "$secrets/fleet_key" ] || wrong "nothing is installed here: $secrets/fleet_key does not exist"
        compose build --pull bridge "$(worker_service)"; up; [ $dry = yes ] || say "upgraded" ;;
    upgrade-yes) native_install --upgrade; if systemd; then run systemctl try-restart pendra-worker pendra-bridge pendra-flower pendra-controlplane; fi ;;
    uninstall-no) compose --profile '*' down --remove-orphans
        say "stopped and removed; models and keys stay in Docker's volumes, configuration in $secrets and $env_file"
        say "to remove those, too: docker compose --profile '*' down -v; rm -r $secrets $env_file" ;;
    uninstall-yes) native_uninstall ;;
esac
