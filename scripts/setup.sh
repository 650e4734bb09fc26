# Sourced by run, test and lint: goes to the repository's root and makes `.venv` ready.
# Installs only what pyproject.toml asks for, and only when that file has changed since.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Exit code 3 says that a tool is missing, here as in `jepa-r` itself.
need() {  # need <what is missing> <Debian packages>
  echo "Not found: $1; install with: apt-get install $2" >&2
  exit 3
}

for tool in git g++ make perl python3; do
  command -v "$tool" > /dev/null || need "$tool" "$tool"
done
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || need "Python 3.11 or later" python3
python3 -c 'import ensurepip, venv' 2> /dev/null || need "the venv module of Python" python3-venv

stamp=.venv/.installed
current=$(cat pyproject.toml scripts/setup.sh | sha256sum)
if [ "$(cat "$stamp" 2> /dev/null)" != "$current" ]; then
  echo "Installing into .venv ..." >&2
  python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' >&2
  echo "$current" > "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
