"""The kernels that numba compiles: what numpy does in many passes over memory, in one.

All take contiguous float32 arrays, channels (or features) last, and write into arrays that they are
given. They run on one thread and let go of the interpreter's lock. Compiled code is cached on disk.

Sums may be taken in another order than they are written (`reassoc`), so that they fill the vector
registers, and a product and a sum may be one instruction (`contract`). The order is fixed when a
kernel is compiled: the same machine gives the same bits every time. NaN and infinity are kept.
"""

from numba import njit
from numpy import float32, sqrt

compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@compiled
def adam(p, g, m, v, lr, beta1, beta2, eps, weight_decay, decoupled, bias1, bias2):
    """One step of Adam, or of AdamW (`decoupled`), on flat arrays; p, m and v change in place.

    bias1, bias2: 1 - beta1**step and 1 - beta2**step.
    """
    rate = float32(lr / bias1)
    root = float32(1 / sqrt(bias2))
    keep1, keep2 = float32(1 - beta1), float32(1 - beta2)
    beta2_, eps_ = float32(beta2), float32(eps)
    decay = float32(0 if decoupled else weight_decay)
    shrink = float32(1 - lr * weight_decay if decoupled else 1)
    for i in range(len(p)):
        gi = g[i] + decay * p[i]
        m[i] += keep1 * (gi - m[i])
        v[i] = beta2_ * v[i] + keep2 * gi * gi
        p[i] = shrink * p[i] - rate * m[i] / (sqrt(v[i]) * root + eps_)


@compiled
def sgd(p, g, velocity, lr, momentum, dampening, weight_decay, nesterov, first):
    """One step of SGD; velocity changes in place and is not read at the `first` step.

    Without momentum give any array as velocity: it is left alone.
    """
    rate, decay = float32(lr), float32(weight_decay)
    if momentum == 0:
        for i in range(len(p)):
            p[i] -= rate * (g[i] + decay * p[i])
        return
    keep = float32(0 if first else momentum)
    new = float32(1 if first else 1 - dampening)
    of_g, of_velocity = float32(1 if nesterov else 0), float32(momentum if nesterov else 1)
    if first:
        velocity[:] = 0  # whatever was there, NaN included
    for i in range(len(p)):
        gi = g[i] + decay * p[i]
        velocity[i] = keep * velocity[i] + new * gi
        p[i] -= rate * (of_g * gi + of_velocity * velocity[i])


@compiled
def rmsprop(p, g, v, mean, velocity, lr, alpha, eps, weight_decay, momentum, centered):
    """One step of RMSprop; v, mean (if centered) and velocity (with momentum) change in place.

    Where one is not wanted give any array: it is left alone.
    """
    rate, decay, eps_, momentum_ = float32(lr), float32(weight_decay), float32(eps), float32(momentum)
    keep, new = float32(alpha), float32(1 - alpha)
    for i in range(len(p)):
        gi = g[i] + decay * p[i]
        v[i] = keep * v[i] + new * gi * gi
        square = v[i]
        if centered:
            mean[i] += new * (gi - mean[i])
            square -= mean[i] * mean[i]
        step = gi / (sqrt(square) + eps_)
        if momentum != 0:
            velocity[i] = momentum_ * velocity[i] + step
            step = velocity[i]
        p[i] -= rate * step
