// Waiting without the GIL, so that other Python threads run, and with Ctrl-C.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <utility>

#include "engine_thread.h"

namespace personaplug {

// Runs `work` without the GIL. Not py::gil_scoped_release: a thread that asks for the GIL of an interpreter that ends
// is unwound, and that must not happen in a destructor.
template <class Work> auto without_gil(Work work) {
    PyThreadState *state = PyEval_SaveThread();
    try {
        auto result = work();
        PyEval_RestoreThread(state);
        return result;
    } catch (const std::exception &) { // of any kind, but not the unwinding of a thread: see above
        PyEval_RestoreThread(state);
        throw;
    }
}

// The seconds a caller may wait: None is for ever.
inline Seconds seconds_of(const pybind11::object &timeout) {
    return Seconds(timeout.is_none() ? 1e9 : std::min(1e9, pybind11::cast<double>(timeout)));
}

// Asked when the module is made, and not at the first wait: Python code may let the GIL go, and a thread that had it
// then would wait, with the GIL, for the initialization of a static that needs the GIL to end.
inline unsigned long main_thread = 0;
inline void remember_main_thread() {
    main_thread = pybind11::module_::import("threading").attr("main_thread")().attr("ident").cast<unsigned long>();
}

// Python runs signal handlers in the main thread alone, between two instructions: only there waits are cut in pieces.
inline Seconds longest_wait() { return Seconds(PyThread_get_thread_ident() == main_thread ? 0.1 : 1e9); }

// Waits in pieces until `piece(seconds)` gives something true, or `timeout` is over. Throws what a signal handler
// raised (KeyboardInterrupt).
template <class Piece> auto wait_in_pieces(Seconds timeout, Piece piece) {
    const Seconds most = longest_wait();
    const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout);
    for (;;) {
        const Seconds left = std::max(Seconds(0), Seconds(end - Clock::now()));
        auto result = without_gil([&] { return piece(std::min(left, most)); });
        if (result || left <= most) {
            return result;
        }
        if (PyErr_CheckSignals() != 0) {
            throw pybind11::error_already_set();
        }
    }
}

} // namespace personaplug
