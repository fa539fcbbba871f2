"""Ask PyTorch anew and write its answers to kept/: python -m tests.host.make_torch_cases"""

import warnings

import torch

from tests.host.torch_cases import GROUPS, plain, write

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # PyTorch's own, of nested tensors and the like
    for group, cases in GROUPS.items():
        answers = {}
        for name, case in cases.items():
            torch.manual_seed(0)
            answers[name] = plain(case(torch))
        write(group, answers)
