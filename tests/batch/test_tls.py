"""A scheduler that is reached through TLS, with certificates that the test signs: it works, and nothing less does."""

import json

import pytest
from batch.cases import RESULT
from batch.certificates import write_certificate
from batch.world import start_scheduler


def certificates(bench, files):
    """The environment of a user who has these certificates."""
    names = ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")
    return {f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(file) for name, file in zip(names, files, strict=True)}


def test_a_batch_runs_through_an_encrypted_scheduler_and_only_with_its_certificates(bench):
    certificate, key = write_certificate(bench.folder / "own")
    tls = ("--tls-ca-file", certificate, "--tls-cert", certificate, "--tls-key", key)
    file, _, _ = start_scheduler(bench, *tls)
    address = json.loads(file.read_text())["address"]
    assert address.startswith("tls://")
    grid, plain = bench.grid("axes: {x: [1, 2]}\n", RESULT), dict(bench.environment)

    code, said = bench.run(grid, scheduler=address)
    assert code == 2
    assert "`distributed.comm.tls.ca-file` must name a file in Dask's configuration" in said
    assert "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" in said

    other, other_key = write_certificate(bench.folder / "other")
    bench.environment = plain | certificates(bench, (other, other, other_key))
    code, said = bench.run(grid, scheduler=address)
    assert code == 3, said
    assert "No scheduler answers at tls://" in said

    code, said = bench.run(grid, scheduler=address.replace("tls://", "tcp://"))
    assert code == 3, said
    assert bench.manifests() == []

    bench.environment = plain | certificates(bench, (certificate, certificate, key))
    code, said = bench.run(grid, scheduler=address)
    assert code == 0, said
    assert len(bench.manifests()) == 2
    code, said = bench.run(grid, scheduler=str(file))
    assert "0 done, 2 were done before" in said


@pytest.mark.parametrize("as_file", [False, True])
def test_an_address_off_this_machine_must_be_encrypted(bench, as_file):
    address = "tcp://192.0.2.7:8786"
    if as_file:
        (bench.folder / "scheduler.json").write_text(json.dumps({"address": address}))
    code, said = bench.run(
        bench.grid("axes: {x: [1]}\n"), scheduler=bench.folder / "scheduler.json" if as_file else address
    )
    assert code == 2
    assert "`scheduler` must be tls://… off this machine, because whoever reaches a scheduler can run code" in said
    assert bench.manifests() == []
