# shellcheck shell=bash
# Environments with other versions of what this package needs: the newest, and the oldest that pyproject.toml allows.
# They are made anew each time, below the state folder.

# wanted newest|oldest: what to install, one requirement a line. newest: everything that the package and its tests
# name, without the bounds. oldest: what a producer, its command line and the store need, at the lower bounds.
wanted() {
    "$VENV/bin/python" - "$1" "$REPO/pyproject.toml" <<'PY'
import sys
import tomllib

from packaging.requirements import Requirement

kind, path = sys.argv[1:]
with open(path, "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
oldest = extras["cli"] + extras["store"]
chosen = project["dependencies"] + (oldest if kind == "oldest" else sum(extras.values(), []))
for one in map(Requirement, chosen):
    if one.name == "jaas":
        continue
    name = f"{one.name}[{','.join(sorted(one.extras))}]" if one.extras else one.name
    if kind == "newest":
        print(name)
    else:
        print(f"{name}=={next(s.version for s in one.specifier if s.operator == '>=')}")
PY
}

# make_environment FOLDER REQUIREMENT...: with this package as it is in the repository, whatever its bounds say.
make_environment() {
    local folder=$1
    shift
    say "versions: installing into $folder"
    python3 -m venv --clear "$folder"
    pip_install "$folder" "$@"
    pip_install "$folder" --no-deps --editable "$REPO"
}

# pip_install FOLDER ARGUMENT...: quiet unless it fails.
pip_install() {
    local folder=$1 out
    shift
    out=$("$folder/bin/pip" install --quiet --disable-pip-version-check "$@" 2>&1 9>&-) ||
        die "pip install failed:"$'\n'"$out"
}

# show_versions FOLDER: the versions of the main dependencies.
show_versions() {
    "$1/bin/python" - <<'PY'
from importlib.metadata import PackageNotFoundError, version

names = "celery kombu redis docker flower billiard pydantic click requests urllib3 structlog rich".split()
for name in names:
    try:
        print(f"    {name} {version(name)}")
    except PackageNotFoundError:
        pass
PY
}
