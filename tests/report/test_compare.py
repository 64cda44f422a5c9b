import io

from rich.console import Console

from disentangle_lightning.report import print_comparison, read_run
from disentangle_lightning.report.compare import comparison_table


def test_runs_stand_side_by_side_and_what_one_lacks_is_a_dash(write):
    full, partial = write("a"), write("b", only=("stage1",), seeds=1, change={"stage1.wer": 0.25})
    rows = dict(comparison_table([read_run(full), read_run(partial)]).rows)
    assert [cell.text for cell in rows["Stage 1 WER"]] == ["10.4% ± 0.3", "25.0%"]
    assert [cell.text for cell in rows["z_textual, leakage of speaker"]] == ["0.03 ± 0.00", "—"]


def test_the_comparison_names_the_runs(write):
    text = io.StringIO()
    paths = [write("a"), write("b")]
    print_comparison(paths, Console(file=text, width=400))
    assert all(str(path) in text.getvalue() for path in paths)
