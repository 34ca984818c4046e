"""P7: resuming with another tokenizer, corpus or shape is refused, with the difference shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from semigpt.errors import CheckpointError, SettingsError
from semigpt.recipe import Recipe, Stepped, train

TABLES = {
    "model": {"kind": "gpt", "width": 16, "num_layers": 1, "num_heads": 2, "context_length": 16},
    "training": {"steps": 30, "batch_size": 4, "eval_blocks": 4, "save_every": 2},
    "sample": {"max_new_tokens": 2},
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"model": {**TABLES["model"], "num_layers": 2}},
            r"begun with other settings: model\.num_layers was 1, is 2",
        ),
        (
            {"model": {**TABLES["model"], "context_length": 8}},
            r"model\.context_length was 16, is 8",
        ),
        ({"tokenizer": {"min_count": 30}}, r"tokenizer\.min_count was 1, is 30"),
        ({"text": "새로운 글이 하나 더."}, "another corpus: its fingerprint was .*, is "),
    ],
)
def test_each_changed_in_turn(
    tmp_path: Path, korean_text: str, changes: dict[str, object], says: str
) -> None:
    text = tmp_path / "글.txt"
    text.write_text(
        "\n\n".join(f"{number}번 글. {korean_text}" for number in range(60)), encoding="utf-8"
    )
    tables = {**TABLES, "data": {"spec": str(text)}}
    for event in train(Recipe.from_tables(tables), tmp_path / "run"):
        if isinstance(event, Stepped) and event.report.step == 5:
            break
    before = sorted(
        (path, path.read_bytes()) for path in (tmp_path / "run").rglob("*") if path.is_file()
    )
    if "text" in changes:
        text.write_text(
            text.read_text(encoding="utf-8") + f"\n\n{changes['text']}", encoding="utf-8"
        )
    asked = Recipe.from_tables({**tables, **{k: v for k, v in changes.items() if k != "text"}})
    with pytest.raises((CheckpointError, SettingsError), match=says):
        list(train(asked, tmp_path / "run", resume=True))
    after = sorted(
        (path, path.read_bytes()) for path in (tmp_path / "run").rglob("*") if path.is_file()
    )
    assert [path for path, _ in after if path.name != ".lock"] == [
        path for path, _ in before if path.name != ".lock"
    ]
    assert (
        dict(after).items()
        >= {path: content for path, content in before if path.name != ".lock"}.items()
    )
