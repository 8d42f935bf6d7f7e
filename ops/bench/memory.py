"""How much memory a process takes, by proc(5): Linux only."""

from pathlib import Path


class Memory:
    """Of one process, from now on. On other systems all is 0."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._mb("VmRSS")

    def peak_mb(self) -> float:
        """The most that it ever took, in megabytes (10⁶ bytes)."""
        return round(self._mb("VmHWM"), 1)

    def grown_mb(self) -> float:
        """The most that it ever took, beyond what it took at the beginning."""
        return round(max(self._mb("VmHWM") - self._before, 0), 1)

    def _mb(self, name: str) -> float:
        try:
            lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        except OSError:
            return 0
        return next((int(line.split()[1]) * 1_024 / 1e6 for line in lines if line.startswith(f"{name}:")), 0)
