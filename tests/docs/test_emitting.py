"""The id function of docs/emitting.md is ours, in every language that it is given in."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import msgspec
import pytest

from replicator.codecs.keys import decode_key, encode_key
from replicator.model.event import Key
from replicator.model.point import within
from replicator.model.schema import CollectionSchema, IdKinds
from replicator.stream.ids import IdMap
from tests.docs.tables import DOCS
from tests.docs.test_pages import blocks

PAGE = DOCS / "emitting.md"


class Case(msgspec.Struct, forbid_unknown_fields=True):
    collection: str
    id: int | str
    key: str
    mapped: str
    scope: str | None = None

    @property
    def name(self) -> Key:
        return Key(self.collection, within(self.scope, self.id))

    @property
    def line(self) -> str:
        """For a program: each part in hexadecimal, so that it may hold anything."""
        parts = (self.collection, self.scope, str(self.id))
        return " ".join("-" if each is None else f"x{each.encode().hex()}" for each in parts)


CASES = msgspec.json.decode((DOCS / "emitting-ids.json").read_bytes(), type=list[Case])

JAVA = """
import java.util.HexFormat;
import java.util.Scanner;

class Main {
    static String read(String part) {
        return part.equals("-") ? null
            : new String(HexFormat.of().parseHex(part.substring(1)), StandardCharsets.UTF_8);
    }

    public static void main(String[] arguments) throws Exception {
        Scanner in = new Scanner(System.in);
        while (in.hasNextLine()) {
            String[] part = in.nextLine().split(" ");
            String collection = read(part[0]), scope = read(part[1]), id = read(part[2]);
            System.out.println(Ids.eventKey(collection, scope, id) + " "
                + Ids.mappedId(collection, scope, id));
        }
    }
}
"""
GO = """
func read(part string) *string {
	if part == "-" {
		return nil
	}
	raw, _ := hex.DecodeString(part[1:])
	text := string(raw)
	return &text
}

func main() {
	for {
		var collection, scope, id string
		if _, err := fmt.Scanln(&collection, &scope, &id); err != nil {
			return
		}
		c, s, i := *read(collection), read(scope), *read(id)
		fmt.Println(EventKey(c, s, i), MappedID(c, s, i))
	}
}
"""
JAVASCRIPT = """
import { readFileSync } from "node:fs";
const read = (part) => (part === "-" ? null : Buffer.from(part.slice(1), "hex").toString());
for (const line of readFileSync(0, "utf8").trim().split("\\n")) {
  const [collection, scope, id] = line.split(" ").map(read);
  console.log(eventKey(collection, scope, id), mappedId(collection, scope, id));
}
"""


def snippet(language: str) -> str:
    [found] = blocks(PAGE, language)
    return found


def java(folder: Path) -> list[str]:
    """In one file, whose first class is run."""
    imports, _, rest = snippet("java").partition("final class")
    more, _, main = JAVA.partition("class Main")
    text = f"{imports}{more}class Main{main}final class{rest}"
    (folder / "Main.java").write_text(text, encoding="utf-8")
    return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "Main.java"]


def go(folder: Path) -> list[str]:
    (folder / "main.go").write_text(snippet("go") + GO, encoding="utf-8")
    return ["go", "run", "main.go"]


def javascript(folder: Path) -> list[str]:
    (folder / "main.mjs").write_text(snippet("javascript") + JAVASCRIPT, encoding="utf-8")
    return ["node", "main.mjs"]


@pytest.mark.parametrize("made", [java, go, javascript])
def test_a_snippet_gives_the_keys_and_ids_of_the_vectors(made: object, tmp_path: Path) -> None:
    command = made(tmp_path)  # type: ignore[operator]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no `{command[0]}` here")
    told = subprocess.run(
        command,
        input="".join(f"{case.line}\n" for case in CASES),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [f"{case.key} {case.mapped}" for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_the_vectors_are_what_the_replicator_does(case: Case) -> None:
    assert encode_key(case.name).decode() == case.key
    read = decode_key(case.key.encode(), isinstance(case.id, int), scoped=None)
    assert encode_key(read).decode() == case.key
    target = CollectionSchema(name="t", vectors={}, ids=IdKinds.UUID)
    assert IdMap("mapped", target, case.collection).to_target(case.name) == case.mapped
    namespace = uuid.UUID("92eb0a74-d6f3-5e60-919c-49275e843727")
    assert str(uuid.uuid5(namespace, case.key)) == case.mapped


def test_the_vectors_hold_what_is_easily_got_wrong() -> None:
    texts = "".join(str(case.id) for case in CASES)
    for hard in ("/", "%", "!", "*", "~", "\n", "ö", "文", "🦜", "-7", "18446744073709551615"):
        assert hard in texts, hard
    assert any(case.scope for case in CASES)
    assert any(case.collection == "" for case in CASES)
    assert any(str(case.id).isupper() and len(str(case.id)) == 36 for case in CASES)
