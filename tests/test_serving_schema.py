"""The API keeps what its OpenAPI document says, for right requests and wrong ones."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving_app import serving, slot_of

from quickdraw_core.serving.web.app import create_app
from quickdraw_core.serving.web.config import ServeConfig
from quickdraw_core.store.store import Store

pytestmark = pytest.mark.services
EXAMPLES = 60


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name)
def test_every_operation_keeps_the_document(store: Store, mode: GenerationMode):
    load_all_checks()
    operations = []
    with serving(create_app(slot_of(), ServeConfig(store=store.path))) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        for result in schema.get_all_operations():
            operation = result.ok()
            operations.append(operation.label)
            _check(operation, mode, address)
        assert httpx.get(f"{address}/readyz").status_code == 200
    assert {"POST /api/guess", "POST /api/guess/picture", "GET /api/model"} <= {*operations}


def _check(operation, mode: GenerationMode, address: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case) -> None:
        # That lists are equally long, or bytes a picture, is beyond a schema.
        case.call_and_validate(
            base_url=address, excluded_checks=[positive_data_acceptance], timeout=120
        )

    try:
        check()
    except Unsatisfiable:
        # An operation without parameters cannot be asked wrongly.
        assert mode is GenerationMode.NEGATIVE
        assert not operation.definition.raw.keys() & {"parameters", "requestBody"}
