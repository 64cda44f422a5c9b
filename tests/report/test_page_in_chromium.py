"""The page in a real browser: nothing overflows a laptop's width, and print gives a PDF."""

import re
import shutil
import subprocess

import pytest

from disentangle_lightning.report import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no chromium, chromium-browser or google-chrome on PATH: the page is not tried in a browser",
)

MEASURE = """
<script>
window.onload = () => {
  const root = document.documentElement;
  const empty = [...document.querySelectorAll('figure svg')].filter(s => s.getBoundingClientRect().width < 200);
  const cut = [...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth);
  const tiny = [...document.querySelectorAll('figure svg text')].filter(t => t.getBoundingClientRect().height < 9);
  document.title = `width ${root.scrollWidth}; empty ${empty.length}; cut ${cut.length}; tiny ${tiny.length}; `
    + `rows ${document.querySelectorAll('#cross-probe tbody tr').length}; end`;
};
</script>
</body>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, write_once):
    return write_report(write_once(tmp_path_factory.mktemp("live") / "demo"))


def chromium(profile, *arguments):
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags = [*quiet.split(), "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}"]
    done = subprocess.run([CHROMIUM, *flags, *arguments], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def measure(report, profile, width):
    """Measurements taken by a script in a copy of the page; the page itself forbids scripts."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.read_text())
    copy = report.with_name("measured.html")
    copy.write_text(text.replace("</body>", MEASURE))
    dom = chromium(profile, f"--window-size={width},900", "--dump-dom", copy.as_uri())
    return dict(pair.split() for pair in re.search(r"<title>(.*?); end</title>", dom)[1].split("; "))


def test_nothing_overflows_at_laptop_width_and_every_figure_is_legible(report, tmp_path):
    found = measure(report, tmp_path / "profile", 1280)
    assert int(found["width"]) <= 1280
    assert found == found | {"empty": "0", "cut": "0", "tiny": "0", "rows": "2"}


def test_long_words_and_many_columns_scroll_in_their_own_box(write, tmp_path):
    path = write(labels={"speaker": ["x" * 300, "y"]}, sentences=["W" * 400] * 4, seeds=1)
    found = measure(write_report(path), tmp_path / "profile", 1280)
    assert int(found["width"]) <= 1280


def test_the_page_forbids_scripts_and_still_renders(report, tmp_path):
    attacked = tmp_path / "attacked.html"
    attacked.write_text(report.read_text().replace("</body>", "<script>document.title = 'ran'</script></body>"))
    dom = chromium(tmp_path / "profile", "--dump-dom", attacked.as_uri())
    assert "<title>ran</title>" not in dom
    assert "Nothing unusual was found" in dom


def test_print_gives_a_pdf_of_several_pages(report, tmp_path):
    pdf = tmp_path / "report.pdf"
    chromium(tmp_path / "profile", f"--print-to-pdf={pdf}", report.as_uri())
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 15
