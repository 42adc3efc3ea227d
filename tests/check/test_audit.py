"""Every defect of a data set is found under its name, and can be mended."""

import csv
import hashlib
import json
import os
import pathlib

import numpy as np
import pictures
import pytest

from tlkeras import errors
from tlkeras.check import audit
from tlkeras.check import fix as fixes
from tlkeras.data import images
from tlkeras.data import sources

SHARED = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"
SIZE = 64
MAX_PIXELS = images.Shape(1, "pad").max_pixels


def photo(seed: int, height: int = 48, width: int = 60) -> np.ndarray:
    return pictures.photo(seed, height, width)


def png(seed: int, *size: int) -> bytes:
    return pictures.encode(photo(seed, *size))


def jpeg(pixels: np.ndarray, quality: int = 60) -> bytes:
    return pictures.encode(pixels, "JPEG", quality=quality)


def clean(folder: str, first: int, each: int = 24) -> dict[str, bytes]:
    return {
        f"{folder}/{seed}.png": png(seed) for seed in range(first, first + each)
    }


def write(checkup: audit.Checkup, place: os.PathLike) -> int:
    """Writes the data set without what is doubtful; returns its images."""
    return fixes.write(checkup.source.examples, checkup.remedy, place)


def check(source: sources.Source, keep: os.PathLike) -> audit.Checkup:
    return audit.check(
        source,
        image_size=SIZE,
        max_pixels=MAX_PIXELS,
        cache_dir=keep,
        progress=pictures.QUIET,
    )


def found(checkup: audit.Checkup, root: pathlib.Path) -> dict[str, set]:
    """Returns the groups of files of each finding, by its name."""
    paths = [
        str(pathlib.Path(example.path).relative_to(root))
        for example in checkup.source.examples
    ]
    names = [finding.name for finding in checkup.findings]
    assert len(set(names)) == len(names)
    for finding in checkup.findings:
        assert len(finding.notes) in (0, len(finding.groups))
        assert finding.title and finding.text.endswith(".")
    return {
        finding.name: {
            frozenset(paths[index] for index in group)
            for group in finding.groups
        }
        for finding in checkup.findings
    }


def each(*names: str) -> set[frozenset[str]]:
    return {frozenset([name]) for name in names}


def digests(root: pathlib.Path) -> dict[str, tuple]:
    """Returns what the files below `root` hold, and when that was changed."""
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def sick(tmp_path_factory) -> pathlib.Path:
    """A folder with every defect that a folder of classes can have."""
    root = tmp_path_factory.mktemp("data") / "sick"
    whole = jpeg(photo(900))
    constant = np.full([48, 60, 3], 77, np.uint8)
    constant[::2] += 2
    pictures.write(
        root,
        {
            **clean("cats", 0),
            **clean("dogs", 100),
            **clean("rare", 200, 5),
            "cats/damaged.jpg": whole[: len(whole) // 2],
            "dogs/text.jpg": b"<html>404</html>",
            "dogs/empty.png": b"",
            "cats/twin.png": png(901),
            "cats/twin.bmp": pictures.encode(photo(901), "BMP"),
            "cats/triplet.webp": pictures.encode(
                photo(901), "WEBP", lossless=True
            ),
            "cats/both.png": png(902),
            "dogs/both.png": png(902),
            "cats/near.png": png(903),
            "cats/near.jpg": jpeg(photo(903)),
            "cats/half.png": png(903, 24, 30),
            "cats/mixed.png": png(904),
            "dogs/mixed.jpg": jpeg(photo(904)[:, ::-1]),
            "dogs/constant.png": pictures.encode(constant),
            "dogs/small.png": png(905, 31, 40),
            "dogs/enough.png": png(906, 32, 40),
            "dogs/long.png": png(907, 40, 90),
            "dogs/film.png": png(908, 40, 71),
            "dogs/lying.jpg": pictures.turned(photo(909), 6),
            "dogs/upright.jpg": pictures.turned(photo(910), 1),
            "dogs/misnamed.png": jpeg(photo(911)),
            "dogs/named.JPEG": jpeg(photo(912)),
            "dogs/unnamed": jpeg(photo(913)),
        },
    )
    return root


@pytest.fixture(scope="module")
def checked(sick, tmp_path_factory) -> audit.Checkup:
    return check(pictures.opened(sick), tmp_path_factory.mktemp("keep"))


def test_every_defect_has_its_name_and_its_files(checked, sick):
    assert found(checked, sick) == {
        "unreadable": each("cats/damaged.jpg", "dogs/text.jpg")
        | each("dogs/empty.png"),
        "equal_under_two_labels": {
            frozenset(["cats/both.png", "dogs/both.png"])
        },
        "alike_under_two_labels": {
            frozenset(["cats/mixed.png", "dogs/mixed.jpg"])
        },
        "alike": {
            frozenset(["cats/near.png", "cats/near.jpg", "cats/half.png"])
        },
        "constant": each("dogs/constant.png"),
        "equal": {
            frozenset(["cats/twin.png", "cats/twin.bmp", "cats/triplet.webp"])
        },
        "few": set(),
        "uneven": set(),
        "small": each("dogs/small.png", "cats/half.png"),
        "proportions": each("dogs/long.png"),
        "orientation": each("dogs/lying.jpg"),
        "misnamed": each("dogs/misnamed.png"),
    }


def test_decisions_come_first_and_are_counted(checked):
    decisions = [finding.decision for finding in checked.findings]
    assert decisions == sorted(decisions, reverse=True)
    assert {each.name for each in checked.findings if each.decision} == {
        "unreadable",
        "equal_under_two_labels",
        "alike_under_two_labels",
        "alike",
        "constant",
    }
    assert checked.decisions == 5
    assert checked.counts == {"": {"cats": 32, "dogs": 36, "rare": 5}}


def test_what_is_said_of_each(checked, sick):
    said = {finding.name: finding for finding in checked.findings}
    assert set(said["unreadable"].notes) == {
        "truncated JPEG",
        "not an image",
        "empty file",
    }
    (mirrored,) = said["alike_under_two_labels"].notes
    assert "mirrored" in mirrored
    assert "mirrored" not in said["alike"].notes[0]
    assert "rare" in said["few"].text and "cats" not in said["few"].text
    assert "dogs: 36, rare: 5" in said["uneven"].text
    assert "24 to 31 pixels, the input 64" in said["small"].text
    assert said["proportions"].notes == ("90 x 40",)
    assert said["orientation"].notes == ("orientation 6",)
    assert said["misnamed"].notes == ("is JPEG",)
    assert said["unreadable"].title == "3 images cannot be used"
    assert said["equal"].title.startswith("3 images")


def test_json_holds_what_was_found(checked, sick):
    values = json.loads(json.dumps(audit.to_json(checked)))
    assert values["schema"] == 1
    assert values["data"] == f"folder:{sick}"
    assert (values["images"], values["readable"]) == (76, 73)
    assert values["classes"] == checked.counts
    assert values["decisions"] == 5
    assert {
        finding["name"]: {
            frozenset(
                str(pathlib.Path(path).relative_to(sick))
                for path in group["paths"]
            )
            for group in finding["groups"]
        }
        for finding in values["findings"]
    } == found(checked, sick)
    for finding, row in zip(values["findings"], checked.findings, strict=True):
        assert finding["title"] == row.title
        assert finding["decision"] is row.decision
        assert [group["note"] for group in finding["groups"]] == (
            list(row.notes) or [""] * len(row.groups)
        )


def test_a_clean_folder_needs_nothing(tmp_path):
    pictures.write(tmp_path / "a b", {**clean("x", 0), **clean("y", 300)})
    checkup = check(pictures.opened(tmp_path / "a b"), tmp_path / "keep")
    assert checkup.findings == ()
    assert checkup.decisions == 0
    assert checkup.remedy == fixes.Remedy(frozenset(), ("",) * 48)
    assert write(checkup, tmp_path / "new.csv") == 48


def test_classes_of_folders_alone_are_found_with_the_rest(tmp_path):
    """They stop training, for which they may be a level too high."""
    files = {**clean("cats", 0), "dogs/2024/bad.png": b""}
    files |= {
        f"dogs/{name}": png(100 + i)
        for i, name in enumerate(f"202{i % 5}/{i}.png" for i in range(24))
    }
    pictures.write(tmp_path / "data", files)
    name = f"folder:{tmp_path / 'data'}"
    source = sources.open(name, nested=True, progress=pictures.QUIET)
    checkup = check(source, tmp_path / "keep")
    names = {finding.name for finding in checkup.findings}
    assert names == {"unreadable", "nested_class"}
    text = next(each.text for each in checkup.findings if each.name[0] == "n")
    assert str(tmp_path / "data" / "dogs") in text
    with pytest.raises(errors.UserError, match="holds no image itself"):
        sources.open(name, progress=pictures.QUIET)


def test_the_user_s_files_stay_as_they_are(sick, tmp_path):
    before = digests(sick)
    checkup = check(pictures.opened(sick), tmp_path / "keep")
    write(checkup, tmp_path / "fixed.csv")
    audit.to_json(checkup)
    assert digests(sick) == before


def rows_of(path: pathlib.Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def mended(
    checkup: audit.Checkup, place: pathlib.Path, keep: os.PathLike
) -> tuple[audit.Checkup, list[dict[str, str]]]:
    """Returns what the remedy comes to, when it is checked in its turn."""
    count = write(checkup, place)
    rows = rows_of(place)
    assert len(rows) == count
    again = check(pictures.opened(place, "csv"), keep)
    assert [
        (finding.name, finding.title)
        for finding in again.findings
        if finding.decision
    ] == []
    return again, rows


def test_the_remedy_of_every_defect(checked, sick, tmp_path):
    _, rows = mended(checked, tmp_path / "fixed.csv", tmp_path / "keep")
    assert list(rows[0]) == ["path", "label", "group"]
    groups = {
        str(pathlib.Path(row["path"]).relative_to(sick)): row["group"]
        for row in rows
    }
    gone = {
        "cats/damaged.jpg",
        "dogs/text.jpg",
        "dogs/empty.png",
        "cats/both.png",
        "dogs/both.png",
        "cats/mixed.png",
        "dogs/mixed.jpg",
        "dogs/constant.png",
    }
    assert not gone & set(groups)
    twins = {"cats/twin.png", "cats/twin.bmp", "cats/triplet.webp"}
    assert len(twins & set(groups)) == 1
    assert len(groups) == 76 - len(gone) - 2
    near = {groups.pop(f"cats/{name}") for name in ("near.png", "near.jpg")}
    near.add(groups.pop("cats/half.png"))
    assert len(near) == 1 and near != {""}
    assert set(groups.values()) == {""}
    for row in rows:
        assert row["label"] == pathlib.Path(row["path"]).parent.name


def test_the_remedy_has_the_classes_of_the_folder(tmp_path):
    """Also where their names differ in what sources take off."""
    root, place = tmp_path / "x", tmp_path / "fixed.csv"
    names = ("=a", "a", "a ", " a", "cafe\u0301", "caf\xe9", "'b", "-1", 'c,"d')
    contents: dict[str, bytes] = {}
    for number, name in enumerate(names):
        contents |= clean(name, 100 * number)
    pictures.write(root, contents)
    source = pictures.opened(root)
    assert write(check(source, tmp_path / "keep"), place) == 24 * len(names)
    again = pictures.opened(place, "csv")
    assert again.labels == source.labels
    assert {each.path: each.label for each in again.examples} == {
        each.path: each.label for each in source.examples
    }


@pytest.fixture(scope="module")
def divided(tmp_path_factory) -> pathlib.Path:
    """A folder with given splits and what is wrong across them."""
    root = tmp_path_factory.mktemp("data") / "divided"
    pictures.write(
        root,
        {
            **clean("train/a", 0),
            **clean("train/b", 100),
            **clean("test/a", 200, 20),
            **clean("test/b", 300, 20),
            "train/a/seen.png": png(400),
            "test/a/seen.png": png(400),
            "train/a/near.png": png(401),
            "test/a/near.jpg": jpeg(photo(401)),
            "train/b/one.png": png(402),
            "train/b/two.jpg": jpeg(photo(402)[:, ::-1]),
            "train/a/label.png": png(403),
            "test/b/label.png": png(403),
        },
    )
    return root


def test_what_stands_in_two_given_splits(divided, tmp_path):
    checkup = check(pictures.opened(divided), tmp_path / "keep")
    assert found(checkup, divided) == {
        "equal_under_two_labels": {
            frozenset(["train/a/label.png", "test/b/label.png"])
        },
        "equal_across_splits": {
            frozenset(["train/a/seen.png", "test/a/seen.png"])
        },
        "alike_across_splits": {
            frozenset(["train/a/near.png", "test/a/near.jpg"])
        },
        "alike_in_one_split": {
            frozenset(["train/b/one.png", "train/b/two.jpg"])
        },
    }
    assert checkup.decisions == 3
    assert checkup.counts == {
        "test": {"a": 22, "b": 21},
        "train": {"a": 27, "b": 26},
    }
    again, rows = mended(checkup, tmp_path / "fixed.csv", tmp_path / "keep")
    assert [finding.name for finding in again.findings] == [
        "alike_in_one_split"
    ]
    kept = {
        str(pathlib.Path(row["path"]).relative_to(divided)): row["split"]
        for row in rows
    }
    # The test keeps what it has; training gives way.
    assert kept["test/a/seen.png"] == kept["test/a/near.jpg"] == "test"
    assert not {"train/a/seen.png", "train/a/near.png"} & set(kept)
    assert not {"train/a/label.png", "test/b/label.png"} & set(kept)
    assert all(path.startswith(split) for path, split in kept.items())


class TestAnyTable:
    """Whatever a table says of them, the remedy leaves nothing to decide."""

    @pytest.fixture(scope="class")
    def pool(self, tmp_path_factory) -> pathlib.Path:
        """Files to choose from: copies of every kind, and clean ones."""
        root = tmp_path_factory.mktemp("pool")
        contents = {}
        for seed in range(6):
            original = photo(seed)
            contents |= {
                f"{seed}/plain.png": pictures.encode(original),
                f"{seed}/equal.bmp": pictures.encode(original, "BMP"),
                f"{seed}/equal.png": pictures.encode(
                    original, compress_level=0
                ),
                f"{seed}/saved.jpg": jpeg(original),
                f"{seed}/mirror.jpg": jpeg(original[:, ::-1]),
                f"{seed}/small.png": pictures.encode(photo(seed, 24, 30)),
            }
        contents |= {
            "bad/text.png": b"text",
            "bad/empty.jpg": b"",
            "bad/flat.png": pictures.encode(np.zeros([9, 9, 3], np.uint8)),
            "bad/flat.bmp": pictures.encode(
                np.zeros([9, 9, 3], np.uint8), "BMP"
            ),
        }
        # So many that no class and no split can become empty.
        contents |= clean("good", 500, 60)
        pictures.write(root, contents)
        return root

    @pytest.fixture(scope="class")
    def keep(self, tmp_path_factory) -> pathlib.Path:
        return tmp_path_factory.mktemp("keep")

    def table(
        self, pool: pathlib.Path, place: pathlib.Path, seed: int, columns: str
    ) -> pathlib.Path:
        random = np.random.default_rng(seed)
        paths = [path for path in sorted(pool.rglob("*")) if path.is_file()]
        good = [path for path in paths if path.parent.name == "good"]
        others = [path for path in paths if path not in good]
        random.shuffle(others)
        chosen = [*good, *others[: random.integers(10, len(others) + 1)]]
        rows = []
        for number, path in enumerate(chosen):
            # The clean ones are dealt out in turn, the others by chance.
            lot = number if path in good else int(random.integers(999))
            row = {"path": str(path), "label": "xyz"[lot % 3]}
            if "split" in columns:
                split = ("train", "validation", "test")[lot // 3 % 3]
                row["split"] = split
            if "group" in columns:
                group = int(random.integers(30))
                row["group"] = f"g{group}" if group < 8 else ""
            rows.append(row)
        order = random.permutation(len(rows))
        with place.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows[index] for index in order)
        return place

    @pytest.mark.parametrize("columns", ["", "split", "group", "split group"])
    @pytest.mark.parametrize("seed", range(5))
    def test_its_remedy_needs_no_decision(
        self, pool, keep, tmp_path, columns, seed
    ):
        table = self.table(pool, tmp_path / "a.csv", seed, columns)
        before = rows_of(table)
        checkup = check(pictures.opened(table, "csv"), keep)
        assert checkup.decisions
        _, rows = mended(checkup, tmp_path / "b.csv", keep)
        old = {row["path"]: row for row in before}
        assert len({row["path"] for row in rows}) == len(rows)
        for row in rows:
            given = old[row["path"]]
            assert row["label"] == given["label"]
            assert row.get("split") == given.get("split")
        # All that was clean is kept, and what was one group still is.
        kept = {row["path"]: row.get("group", "") for row in rows}
        assert all(
            path in kept
            for path in old
            if pathlib.Path(path).parent.name == ("good")
        )
        names: dict[str, set[str]] = {}
        for path, group in kept.items():
            given = old[path].get("group", "")
            if given:
                names.setdefault(given, set()).add(group)
        assert all(len(group) == 1 for group in names.values())
        assert "" not in set().union(*names.values())

    def test_new_groups_do_not_fall_into_old_ones(self, pool, keep, tmp_path):
        """A table that was mended once, with pictures added to it."""
        old = [pool / "good" / f"{seed}.png" for seed in (500, 501)]
        rest = [pool / "good" / f"{seed}.png" for seed in range(502, 560)]
        near = [pool / "0" / "plain.png", pool / "0" / "saved.jpg"]
        rows = [(path, "x", "alike-1") for path in old]
        rows += [(path, "x", "") for path in near]
        rows += [
            (path, "xy"[number % 2], "") for number, path in enumerate(rest)
        ]
        with (tmp_path / "a.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerows([("path", "label", "group"), *rows])
        checkup = check(pictures.opened(tmp_path / "a.csv", "csv"), keep)
        _, rows = mended(checkup, tmp_path / "b.csv", keep)
        groups = {row["path"]: row["group"] for row in rows}
        assert groups[str(old[0])] == groups[str(old[1])] == "alike-1"
        assert groups[str(near[0])] == groups[str(near[1])] != ""
        assert groups[str(near[0])] != "alike-1"


def test_given_groups_that_hold_alike_pictures_are_no_matter(tmp_path):
    pictures.write(
        tmp_path,
        {
            **clean("a", 0),
            **clean("b", 100),
            "a/near.png": png(300),
            "a/near.jpg": jpeg(photo(300)),
        },
    )
    rows = [
        (path, path.parent.name, path.stem if path.stem == "near" else "")
        for path in sorted(tmp_path.glob("*/*"))
    ]
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "group"), *rows])
    source = pictures.opened(tmp_path / "a.csv", "csv")
    checkup = check(source, tmp_path / "keep")
    assert checkup.findings == ()


class TestWhatCannotBeSplit:
    def said(self, root: pathlib.Path, contents: dict[str, bytes]) -> str:
        pictures.write(root, contents)
        checkup = check(pictures.opened(root), root.parent / "keep")
        (finding,) = (
            each for each in checkup.findings if each.name == "too_few"
        )
        assert finding.decision
        assert not finding.groups
        return finding.text

    def test_one_class(self, tmp_path):
        text = self.said(tmp_path / "one", clean("a", 0, 5))
        assert "at least 2 classes" in text

    def test_a_class_of_two(self, tmp_path):
        text = self.said(
            tmp_path / "few", {**clean("a", 0, 5), **clean("b", 100, 2)}
        )
        assert "'b' must have an image in train" in text

    def test_a_class_of_one_picture_many_times(self, tmp_path):
        text = self.said(
            tmp_path / "equal",
            {
                **clean("a", 0, 5),
                **{f"b/{number}.png": png(7) for number in range(9)},
            },
        )
        assert "'b' must have" in text and "equal images" in text

    def test_a_class_that_cannot_be_read(self, tmp_path):
        text = self.said(
            tmp_path / "text", {**clean("a", 0, 5), "b/1.png": b"text"}
        )
        assert "Class 'b' has no image that can be read" in text

    def test_nothing_that_can_be_read(self, tmp_path):
        text = self.said(
            tmp_path / "none", {"a/1.png": b"text", "b/1.png": b""}
        )
        assert "Class 'a' has no image that can be read" in text


class TestWhatFixLeavesOut:
    """What was written can always be split, and so be trained on."""

    def left(
        self, tmp_path: pathlib.Path, contents: dict[str, bytes]
    ) -> tuple[audit.Checkup, set[str]]:
        root = tmp_path / "photos"
        pictures.write(root, contents)
        checkup = check(pictures.opened(root), tmp_path / "keep")
        again, rows = mended(checkup, tmp_path / "a.csv", tmp_path / "keep")
        labels = {row["label"] for row in rows}
        assert set(again.source.labels) == labels
        assert audit.to_json(checkup)["left_out_classes"] == list(
            checkup.remedy.classes
        )
        return checkup, labels

    def test_tiny_classes(self, tmp_path):
        checkup, labels = self.left(
            tmp_path,
            {
                **clean("a", 0),
                **clean("b", 100),
                **clean("tiny", 200, 2),
                **clean("single", 300, 1),
            },
        )
        assert checkup.remedy.classes == ("single", "tiny")
        assert labels == {"a", "b"}
        findings = {each.name: each for each in checkup.findings}
        assert "2 classes cannot have an image" in findings["too_few"].text
        assert findings["lost_class"].decision
        assert findings["lost_class"].title == "--fix would leave out 2 classes"
        assert "split: single (of 1), tiny (of 2). Add" in (
            findings["lost_class"].text
        )

    def test_a_class_of_which_all_is_doubtful(self, tmp_path):
        same = {f"{label}/same.png": png(7) for label in ("a", "c")}
        checkup, labels = self.left(
            tmp_path, {**clean("a", 100), **clean("b", 200), **same}
        )
        assert labels == {"a", "b"}
        (text,) = (
            each.text for each in checkup.findings if each.name == "lost_class"
        )
        assert "split: c (of 1)." in text

    def test_a_class_that_becomes_tiny(self, tmp_path):
        """Three images could be split, but two of them are one."""
        checkup, labels = self.left(
            tmp_path,
            {
                **clean("a", 0),
                **clean("b", 100),
                **clean("c", 200, 2),
                "c/near.png": png(201, 24, 30),
                "c/bad.png": b"text",
            },
        )
        assert checkup.remedy.classes == ("c",)
        assert labels == {"a", "b"}
        names = [finding.name for finding in checkup.findings]
        assert "lost_class" in names and "too_few" not in names

    def test_classes_without_training_images(self, tmp_path):
        _, labels = self.left(
            tmp_path,
            {
                **clean("train/a", 0),
                **clean("train/b", 100),
                **clean("test/a", 200),
                **clean("test/b", 300),
                **clean("test/c", 400),
            },
        )
        assert labels == {"a", "b"}

    def test_one_class_is_no_data_set(self, tmp_path):
        root = tmp_path / "photos"
        pictures.write(root, {**clean("a", 0), **clean("b", 100, 2)})
        checkup = check(pictures.opened(root), tmp_path / "keep")
        with pytest.raises(errors.UserError, match="would have one class, 'a'"):
            write(checkup, tmp_path / "a.csv")
        assert not (tmp_path / "a.csv").exists()


def test_the_limit_of_pixels_is_followed(sick, tmp_path):
    checkup = audit.check(
        pictures.opened(sick),
        image_size=SIZE,
        max_pixels=40 * 90 - 1,
        cache_dir=tmp_path,
        progress=pictures.QUIET,
    )
    unreadable = found(checkup, sick)["unreadable"]
    assert frozenset(["dogs/long.png"]) in unreadable
    assert len(unreadable) == 4


def test_names_that_a_table_cannot_hold(tmp_path):
    latin = os.fsdecode(b"caf\xe9.png")
    pictures.write(
        tmp_path / "x",
        {**clean("a", 0, 4), **clean("b", 100, 4), f"a/{latin}": png(50)},
    )
    checkup = check(pictures.opened(tmp_path / "x"), tmp_path / "keep")
    assert audit.to_json(checkup)["images"] == 9
    with pytest.raises(errors.UserError, match="not UTF-8") as caught:
        write(checkup, tmp_path / "a.csv")
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert not (tmp_path / "a.csv").exists()


def test_odd_names_come_back_from_the_table(tmp_path):
    names = ['a/"1", 2.png', "b/二 #;.png", "a/ 3 .png", "b/x\ny.png"]
    pictures.write(
        tmp_path / "x y",
        {
            **clean("a", 0, 8),
            **clean("b", 100, 8),
            **{name: png(200 + seed) for seed, name in enumerate(names)},
        },
    )
    checkup = check(pictures.opened(tmp_path / "x y"), tmp_path / "keep")
    again, _ = mended(checkup, tmp_path / "a.csv", tmp_path / "keep")
    assert [
        (example.path, example.label) for example in again.source.examples
    ] == [(example.path, example.label) for example in checkup.source.examples]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here")
class TestRealData:
    @pytest.mark.parametrize(
        "name", ["brain_mri", "flowers", "steel_defects", "hymenoptera"]
    )
    def test_the_remedy_needs_no_decision(self, name, tmp_path):
        checkup = check(pictures.opened(SHARED / name), tmp_path)
        mended(checkup, tmp_path / "a.csv", tmp_path)

    def test_brain_scans(self, tmp_path):
        checkup = check(pictures.opened(SHARED / "brain_mri"), tmp_path)
        groups = found(checkup, SHARED / "brain_mri")
        assert "alike_under_two_labels" not in groups
        assert len(groups["alike"]) == 20
        assert len(frozenset().union(*groups["alike"])) == 41
        assert len(groups["misnamed"]) == 5
        for (name,) in groups["misnamed"]:
            with pictures.PIL.Image.open(SHARED / "brain_mri" / name) as image:
                suffix = pathlib.Path(name).suffix.lower().lstrip(".")
                kind = image.format.lower()
            assert kind != {"jpg": "jpeg"}.get(suffix, suffix)


def test_an_empty_remedy_is_refused(tmp_path):
    root = tmp_path / "photos"
    pictures.write(root, {"a/1.png": b"", "b/1.png": b"text"})
    checkup = check(pictures.opened(root), tmp_path / "keep")
    with pytest.raises(errors.UserError, match="would be empty"):
        write(checkup, tmp_path / "a.csv")
    assert not (tmp_path / "a.csv").exists()
    assert audit.to_json(checkup)["left_out"] == [
        f"{root}/a/1.png",
        f"{root}/b/1.png",
    ]
