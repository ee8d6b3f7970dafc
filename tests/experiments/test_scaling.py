"""What several devices cost: by hand, and as they sum their gradients."""

import pytest
from conftest import FORKS

from snip_tf.experiments import scaling


def test_a_step_on_many_devices_is_the_sum_of_its_parts():
    device = scaling.Device(
        "", macs=1e9, bandwidth=1e6, latency=1e-3, overhead=0.5
    )
    network = {"macs": 1e6, "gradient_bytes": 4e6}
    alone = scaling.step_seconds(device, 1, 100, **network)
    assert alone == pytest.approx(3 * 100 * 1e6 / 1e9)
    four = scaling.step_seconds(device, 4, 100, **network)
    # 3 of 4 parts of the gradients go around twice; 2 messages up, 2 down.
    assert four == pytest.approx(0.3 / 4 + 2 * 3 * 1 + 4 * 1e-3 + 0.5)
    assert scaling.step_seconds(device, 8, 100, **network) is None


@pytest.mark.slow
def test_replicas_sum_the_gradients_of_the_dense_network_and_no_masks():
    process = FORKS.Process(target=train_on_two)
    process.start()
    process.join()
    assert process.exitcode == 0


def train_on_two():
    scaling._SECONDS = 0
    rate, _, sent = scaling._train("lenet_300_100", replicas=2)
    assert rate > 0
    assert sent == 4 * 266_610
