"""Floor 1: run directories in, tables and one HTML page out; imports neither torch nor lightning."""

from disentangle_lightning.report.compare import print_comparison
from disentangle_lightning.report.page import write_report
from disentangle_lightning.report.run_directory import RunDirectory, read_run
from disentangle_lightning.report.tables import print_report

__all__ = ["RunDirectory", "print_comparison", "print_report", "read_run", "write_report"]
