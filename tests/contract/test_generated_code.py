"""What is generated from proto/ and committed is what the generator writes now."""

from pathlib import Path

from tests.contract.descriptors import PROTO_ROOT, REPOSITORY, generator


def test_the_descriptor_is_frozen() -> None:
    now = generator().freeze(generator().build_descriptor_set())
    assert (PROTO_ROOT / "descriptor.txtpb").read_text() == now, (
        "the public API differs from proto/descriptor.txtpb: if that is meant and compatible, run `make proto`"
    )


def test_the_generated_modules_are_fresh(tmp_path: Path) -> None:
    generator().generate(tmp_path)
    committed = REPOSITORY / "clients" / "python" / "fluyt" / "v1"
    fresh = tmp_path / "fluyt" / "v1"

    def texts(root: Path) -> dict[str, str]:
        return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*.py*") if path.suffix != ".pyc"}

    assert texts(committed) == texts(fresh), "run `make proto`"


def test_the_generated_messages_exist_once() -> None:
    found = list((REPOSITORY / "server").rglob("*_pb2.py"))
    assert not found
