"""The numbers that Lee et al. 2019 print, and those of their code.

Errors are in percent, as text with the digits that are printed.
"""

AUTHORS = (
    "The authors' released code was run under tf.compat.v1: LeNet-300-100 for "
    "20,000 iterations with three seeds, LeNet-5-Caffe for 10,000 with one, "
    "the learning rate dropping from 0.1 at one half and three quarters."
)

# Table 1: sparsity, error, and that of the authors' code.
LENET_300_100 = ((0.0, "1.7", 1.45), (0.95, "1.6", 2.18), (0.98, "2.4", 3.29))
LENET_5_CAFFE = ((0.0, "0.9", None), (0.98, "0.8", 0.98), (0.99, "1.1", 1.48))

# Table 1: what the paper quotes of other methods, in percent.
QUOTED = (
    "| method | criterion | LeNet-300-100, sparsity | error "
    "| LeNet-5-Caffe, sparsity | error |\n"
    "| --- | --- | --- | --- | --- | --- |\n"
    "| LWC | magnitude | 91.7 | 1.6 | 91.7 | 0.8 |\n"
    "| DNS | magnitude | 98.2 | 2.0 | 99.1 | 0.9 |\n"
    "| LC | magnitude | 99.0 | 3.2 | 99.0 | 1.1 |\n"
    "| SWS | Bayesian | 95.6 | 1.9 | 99.5 | 1.0 |\n"
    "| SVD | Bayesian | 98.5 | 1.9 | 99.6 | 0.8 |\n"
    "| OBD | Hessian | 92.0 | 2.0 | 92.0 | 2.7 |\n"
    "| L-OBS | Hessian | 98.5 | 2.0 | 99.0 | 2.1 |"
)

# Table 2: network, data, weights and errors before and after.
TABLE_2 = (
    ("alexnet_s", "cifar10", "5.1m", "507k", "14.12", "14.99"),
    ("alexnet_b", "cifar10", "8.5m", "849k", "13.92", "14.50"),
    ("vgg_c", "cifar10", "10.5m", "526k", "6.82", "7.27"),
    ("vgg_d", "cifar10", "15.2m", "762k", "6.76", "7.09"),
    ("vgg_like", "cifar10", "14.9m", "449k", "8.26", "8.00"),
    ("wrn_16_8", "cifar10", "10.0m", "548k", "6.21", "6.63"),
    ("wrn_16_10", "cifar10", "17.1m", "856k", "5.91", "6.43"),
    ("wrn_22_8", "cifar10", "17.2m", "858k", "6.14", "5.85"),
    ("lstm_s", "mnist", "137k", "6.8k", "1.88", "1.57"),
    ("lstm_b", "mnist", "536k", "26.8k", "1.15", "1.35"),
    ("gru_s", "mnist", "104k", "5.2k", "1.87", "2.41"),
    ("gru_b", "mnist", "404k", "20.2k", "1.71", "1.52"),
)

# Table 3: the errors with RN, TN, VS-X and VS-H.
TABLE_3 = {
    "lenet_300_100": "1.90 ± 0.09, 1.96 ± 0.11, 1.91 ± 0.10, 1.88 ± 0.10",
    "lenet_5_caffe": "0.89 ± 0.04, 0.87 ± 0.05, 0.88 ± 0.07, 0.85 ± 0.05",
    "lstm_s": "2.93 ± 0.20, 3.03 ± 0.17, 1.48 ± 0.09, 1.47 ± 0.08",
    "gru_s": "47.61 ± 20.49, 46.48 ± 22.25, 1.80 ± 0.10, 1.80 ± 0.14",
}
