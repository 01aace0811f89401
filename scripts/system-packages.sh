#!/bin/sh
# Says which system packages HYPED's setup wants and installs them where it may (root on a Debian-like system).
# Everything here is optional but python3.11 with venv: without a compiler and Eigen, btrack's library is not built.
# With the word `chromium` also the browser that the tests of the report drive.
set -u
want=""
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null 2>&1 || want="$want python3.11"
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || want="$want python3.11-venv"
command -v g++ >/dev/null 2>&1 || want="$want g++"
[ -d /usr/include/eigen3 ] || want="$want libeigen3-dev"
if [ "${1:-}" = chromium ]; then
    command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1 \
        || command -v google-chrome >/dev/null 2>&1 || want="$want chromium"
fi
[ -z "$want" ] && exit 0
echo "system packages wanted:$want"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $want >/dev/null \
        || echo "could not install them; going on without" >&2
else
    echo "install them with: sudo apt-get install$want" >&2
fi
command -v "$python" >/dev/null 2>&1 || { echo "python3.11 is required" >&2; exit 5; }
