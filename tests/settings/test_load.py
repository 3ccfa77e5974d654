from __future__ import annotations

import re
from pathlib import Path

import pytest

from replicator.connectors.jsonl.kind import JsonlSettings
from replicator.connectors.qdrant.kind import QdrantSettings
from replicator.errors import Refused
from replicator.kinds import variants
from replicator.settings.cutover import HttpSettings, ManualSettings
from replicator.settings.feeds import ChangelogSettings, KafkaSettings, NoFeedSettings
from replicator.settings.load import DEFAULT_PATH, discover, load
from replicator.settings.settings import Settings

SOURCE = '[source]\nkind = "qdrant"\n'
TARGET = '[target]\nkind = "jsonl"\npath = "export"\n'
COLLECTIONS = '[[collections]]\nsource = "a"\ntarget = "b"\n'
KAFKA = '[feed]\nkind = "kafka"\nbootstrap_servers = "localhost:9092"\ntopic = "t"\n'
WHOLE = 'name = "n"\n' + SOURCE + TARGET + COLLECTIONS + KAFKA


@pytest.fixture
def read(tmp_path: Path):  # type: ignore[no-untyped-def]
    def read(text: str, **env: str) -> Settings:
        path = tmp_path / "replicator.toml"
        path.write_text(text)
        return load(path, env, variants())

    return read


@pytest.fixture
def refusal(read):  # type: ignore[no-untyped-def]
    def refusal(text: str, **env: str) -> tuple[str, str]:
        with pytest.raises(Refused) as caught:
            read(text, **env)
        return caught.value.code, caught.value.message

    return refusal


def test_a_small_file_gets_every_default(read) -> None:  # type: ignore[no-untyped-def]
    settings = read(WHOLE)

    assert settings.source == QdrantSettings()
    assert settings.target == JsonlSettings(path="export")
    assert isinstance(settings.feed, KafkaSettings)
    assert settings.feed.settle == 60
    assert settings.collections[0].ids == "auto"
    assert settings.stream.batch_bytes == 4 << 20
    assert settings.cutover.fence == ManualSettings()
    assert settings.hooks.before_fence is None


def test_every_kind_is_read(read) -> None:  # type: ignore[no-untyped-def]
    changelog = WHOLE.replace(KAFKA, '[feed]\nkind = "changelog"\npath = "c.db"\n')
    none = WHOLE.replace(KAFKA, '[feed]\nkind = "none"\n')
    http = WHOLE + '[cutover.fence]\nkind = "http"\nurl = "http://app/fence"\n'

    assert read(changelog).feed == ChangelogSettings(path="c.db")
    assert read(none).feed == NoFeedSettings()
    assert read(http).cutover.fence == HttpSettings(url="http://app/fence")


def test_durations_and_sizes_carry_their_unit(read) -> None:  # type: ignore[no-untyped-def]
    stream = '[stream]\nlinger = "250ms"\nbatch_bytes = "64KiB"\n'
    settings = read(WHOLE + 'settle = "1.5h"\n' + stream)

    assert settings.feed.settle == 5400
    assert settings.stream.linger == 0.25
    assert settings.stream.batch_bytes == 65536


def test_a_whole_number_is_a_number(read) -> None:  # type: ignore[no-untyped-def]
    rate = read(WHOLE + "[backfill]\nrate_max = 500\n").backfill.rate_max

    assert rate == 500.0
    assert type(rate) is float


# -- the environment --------------------------------------------------------------------------


def test_variables_are_replaced_in_every_string(read) -> None:  # type: ignore[no-untyped-def]
    text = WHOLE.replace('"a"', '"${A}"').replace('"n"', '"x-${A}.${B:-y}"')
    text += '[hooks.before_fence]\ncommand = ["run", "${A}"]\n'

    settings = read(text, A="one")

    assert settings.collections[0].source == "one"
    assert settings.name == "x-one.y"
    assert settings.hooks.before_fence is not None
    assert settings.hooks.before_fence.command == ["run", "one"]


def test_a_default_stands_in_for_a_variable_that_is_empty(read) -> None:  # type: ignore[no-untyped-def]
    assert read(WHOLE.replace('"n"', '"${NAME:-other}"'), NAME="").name == "other"
    assert read(WHOLE.replace('"n"', '"${NAME:-other}"'), NAME="mine").name == "mine"


def test_two_dollars_are_a_plain_one_and_what_a_variable_holds_is_not_read_again(  # type: ignore[no-untyped-def]
    read,
) -> None:
    text = WHOLE + '[hooks.before_fence]\ncommand = ["$${HOME}", "$5", "${X}"]\n'

    hook = read(text, X="${HOME}").hooks.before_fence

    assert hook is not None
    assert hook.command == ["${HOME}", "$5", "${HOME}"]


def test_a_variable_that_is_not_set_is_named_with_its_place(refusal) -> None:  # type: ignore[no-untyped-def]
    code, message = refusal(WHOLE.replace(SOURCE, SOURCE + 'api_key = "${NO_SUCH}"\n'))

    assert code == "config-env"
    assert "source.api_key" in message
    assert "NO_SUCH" in message


@pytest.mark.parametrize("text", ["${", "${1A}", "${A", "${A:default}", "${}"])
def test_a_reference_that_is_none_is_refused(refusal, text: str) -> None:  # type: ignore[no-untyped-def]
    code, message = refusal(WHOLE.replace('"n"', f'"{text}"'), A="x")

    assert code == "config-env"
    assert message.startswith("name: ")


# -- what is wrong with the file --------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_missing(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(Refused) as caught:
            load(path, {}, variants())
        assert caught.value.code == "config-missing"
        assert str(path) in caught.value.message


def test_broken_toml_is_shown_with_its_line(refusal, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, message = refusal(WHOLE + "oops\n")

    assert code == "config-syntax"
    assert re.search(r"line 1\d", message)
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xff"')
    with pytest.raises(Refused) as caught:
        load(path, {}, variants())
    assert caught.value.code == "config-syntax"


def test_nesting_without_end_is_broken_toml(refusal) -> None:  # type: ignore[no-untyped-def]
    assert refusal("a = " + "[" * 5000)[0] == "config-syntax"


@pytest.mark.parametrize(
    ("text", "path", "hint"),
    [
        (WHOLE + 'topicc = "x"\n', "feed.topicc", "feed.topic"),
        (WHOLE + 'listen = "x"\n', "feed.listen", "http.listen"),
        (WHOLE + "poll_interval = 1\n", "feed.poll_interval", "kind 'changelog'"),
        ("sorce = 1\n" + WHOLE, "sorce", "source"),
        ("topic = 1\n" + WHOLE, "topic", "feed.topic"),
        (WHOLE + "[steam]\n", "steam", "stream"),
        (WHOLE + "[stream]\nbatchrecords = 1\n", "stream.batchrecords", "batch_records"),
        (
            WHOLE + '[cutover.fence]\nkind = "http"\nuri = "x"\n',
            "cutover.fence.uri",
            "cutover.fence.url",
        ),
        (
            WHOLE + '[cutover.switch]\nkind = "manual"\naliases = []\n',
            "cutover.switch.aliases",
            "kind 'qdrant-alias'",
        ),
        (
            WHOLE.replace(COLLECTIONS, COLLECTIONS + "transforms = {}\n"),
            "collections[0].transforms",
            "collections[0].transform",
        ),
        (
            WHOLE.replace(COLLECTIONS, COLLECTIONS + "rename = {}\n"),
            "collections[0].rename",
            "collections[].transform.rename",
        ),
        (WHOLE + '"odd key" = 1\n', 'feed."odd key"', ""),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(  # type: ignore[no-untyped-def]
    refusal, text: str, path: str, hint: str
) -> None:
    code, message = refusal(text)

    assert code == "config-unknown-key"
    assert message.startswith(f"{path} is not a setting")
    assert hint in message


@pytest.mark.parametrize(
    ("text", "beginning", "hint"),
    [
        (WHOLE.replace('"qdrant"', '"qdrnt"'), "source.kind: is one of qdrant", "'qdrant'?"),
        (WHOLE.replace('kind = "qdrant"', ""), "source.kind: is missing", "one of qdrant"),
        (WHOLE.replace('"qdrant"', "1"), "source.kind: must be a string", "not an integer"),
        (WHOLE.replace(SOURCE, ""), "source: is missing", ""),
        (WHOLE.replace(COLLECTIONS, ""), "collections: is missing", ""),
        (WHOLE.replace('path = "export"\n', ""), "target.path: is missing", ""),
        (WHOLE + "settle = 60\n", "feed.settle: expected a duration with a unit", "`30s`"),
        (WHOLE + 'settle = "60"\n', "feed.settle: expected a duration with a unit", "'60'"),
        (WHOLE + 'event_bytes_max = "8 megs"\n', "feed.event_bytes_max: expected a size", ""),
        (WHOLE + 'settle = "' + "9" * 400 + 'd"\n', "feed.settle: ", ""),
        (WHOLE + 'event_bytes_max = "' + "9" * 400 + 'B"\n', "feed.event_bytes_max: ", ""),
        (WHOLE + 'partitioner = "murmur"\n', "feed.partitioner: is one of", "'murmur2'?"),
        (WHOLE + "ssl_check_hostname = 1\n", "feed.ssl_check_hostname: must be true", ""),
        (WHOLE + "[stream]\nbatch_records = true\n", "stream.batch_records: must be an", ""),
        (WHOLE + "[stream]\nbatch_records = 1.0\n", "stream.batch_records: must be an", ""),
        (WHOLE + f"[verify]\nsample = {10**30}\n", "verify.sample: does not fit", ""),
        (WHOLE + "[verify]\nrate_max = nan\n", "verify.rate_max: is not a finite", ""),
        (WHOLE + f"[verify]\nrate_max = {10**400}\n", "verify.rate_max: does not", ""),
        ("stream = 1\n" + WHOLE, "stream: must be a table, not an integer", ""),
        ("hooks = []\n" + WHOLE, "hooks: must be a table, not a list", ""),
        (
            WHOLE + '[hooks.before_fence]\ncommand = "run me"\n',
            "hooks.before_fence.command: must be a list",
            "",
        ),
        (
            WHOLE + '[hooks.before_fence]\ncommand = ["run", 1]\n',
            "hooks.before_fence.command[1]: must be a string",
            "",
        ),
        (
            WHOLE.replace(COLLECTIONS, COLLECTIONS + 'transform.cast = { "a b" = "in" }\n'),
            'collections[0].transform.cast."a b": is one of int',
            "'int'?",
        ),
        (
            WHOLE.replace(COLLECTIONS, COLLECTIONS + "transform.constant.at = 2024-01-01\n"),
            "collections[0].transform.constant.at: is a date or time",
            "",
        ),
        (
            WHOLE.replace(COLLECTIONS, COLLECTIONS + "transform.default.x = [inf]\n"),
            "collections[0].transform.default.x[0]: is not a finite number",
            "",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_would(  # type: ignore[no-untyped-def]
    refusal, text: str, beginning: str, hint: str
) -> None:
    code, message = refusal(text)

    assert code == "config-invalid"
    assert message.startswith(beginning)
    assert hint in message


def test_an_error_never_shows_a_secret(refusal) -> None:  # type: ignore[no-untyped-def]
    text = WHOLE.replace(SOURCE, SOURCE + 'api_key = ["${KEY}"]\n')

    assert "hunter2" not in refusal(text, KEY="hunter2")[1]


# -- where the file is ------------------------------------------------------------------------


def test_the_named_file_goes_before_the_variable_and_that_before_the_default() -> None:
    env = {"REPLICATOR_CONFIG": "env.toml"}

    assert discover("named.toml", env) == Path("named.toml")
    assert discover(None, env) == Path("env.toml")
    assert discover(None, {}) == DEFAULT_PATH == Path("config/replicator.toml")
    assert discover(None, {"REPLICATOR_CONFIG": ""}) == DEFAULT_PATH
