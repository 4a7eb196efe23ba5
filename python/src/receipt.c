/* SPDX-License-Identifier: MIT */

#include "values.h"

static PyObject *answer(int value)
{
    if (value == FIN_UNVERIFIABLE)
        Py_RETURN_NONE;
    return PyBool_FromLong(value == FIN_YES);
}

static PyObject *pyreceipt_stages(const struct fin_receipt *receipt)
{
    PyObject *tuple = PyTuple_New(FIN_STAGES);

    for (int stage = 0; tuple && stage < FIN_STAGES; stage++) {
        PyObject *time = PyLong_FromLongLong(receipt->stage_ns[stage]);

        if (!time)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, stage, time);
    }
    return tuple;
}

PyObject *fin__py_holder(const struct fin_holder *holder)
{
    /* It may hold any byte: what is not UTF-8 comes as os.fsdecode() has it. */
    return Py_BuildValue("(iiN)", holder->pid, holder->fd,
                         PyUnicode_DecodeFSDefault(holder->command));
}

static PyObject *pyreceipt_holders(const struct fin_receipt *receipt)
{
    uint32_t count =
        receipt->holders < FIN_RECEIPT_HOLDERS ? receipt->holders : FIN_RECEIPT_HOLDERS;
    PyObject *tuple = PyTuple_New((Py_ssize_t) count);

    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *holder = fin__py_holder(&receipt->holder[i]);

        if (!holder)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, (Py_ssize_t) i, holder);
    }
    return tuple;
}

PyObject *fin__py_receipt(const struct fin_receipt *receipt)
{
    return Py_BuildValue(
        "(sssNiIKNKKKKNNsIN)", fin_outcome_name(receipt->outcome), fin_phase_name(receipt->phase),
        fin_end_name(receipt->end), answer(receipt->held), -receipt->error,
        (unsigned) receipt->unverifiable, (unsigned long long) receipt->requested_ns,
        pyreceipt_stages(receipt), (unsigned long long) receipt->unsent,
        (unsigned long long) receipt->unacked, (unsigned long long) receipt->discarded,
        (unsigned long long) receipt->accepted, PyBool_FromLong(receipt->forced),
        PyBool_FromLong(receipt->tombstone), fin_search_name(receipt->search),
        (unsigned) receipt->holders, pyreceipt_holders(receipt));
}
