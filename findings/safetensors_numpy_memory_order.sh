#!/usr/bin/env bash
# safetensors 0.8.0 writes numpy arrays in the order of memory, not in the order of their indices.
#
# Guess from memory: `safetensors.numpy.save_file` writes any array as its indices say, as 0.7.0 does (`tobytes()`),
#   or refuses one that is not contiguous, as `safetensors.torch.save_file` does.
# Seen: 0.7.0 returns every array unchanged. 0.8.0 returns a transposed array, a Fortran-ordered array and a slice with a
#   step with the right shape and other values. It raises no error and gives no warning.
# Who meets it: boxes made as `np.array([x1, y1, x2, y2]).T`, feature matrices stored transposed, columns of a table.
# What helps: `np.ascontiguousarray(x)` before every save.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/check.py" <<'PY'
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

plain = np.arange(12, dtype=np.float32).reshape(3, 4)
cases = {
    "contiguous": plain,
    "transposed": plain.T,
    "fortran": np.asfortranarray(plain),
    "every second column": plain[:, ::2],
}
same = {}
for name, array in cases.items():
    save_file({"x": array}, sys.argv[1])
    back = load_file(sys.argv[1])["x"]
    assert back.shape == array.shape
    same[name] = bool(np.array_equal(back, array))
print(f"safetensors {safetensors.__version__}, numpy {np.__version__}: unchanged after saving and loading: {same}")
expected = {"0.7.0": [True, True, True, True], "0.8.0": [True, False, False, False]}[safetensors.__version__]
sys.exit(list(same.values()) != expected)
PY
for version in 0.7.0 0.8.0; do
  python3 -m venv "$work/$version"
  "$work/$version/bin/pip" install --quiet --disable-pip-version-check "safetensors==$version" numpy==2.2.6 2>/dev/null
  "$work/$version/bin/python" "$work/check.py" "$work/x.safetensors"
done
echo "as found: 0.8.0 stores memory order"
