#include "engine_thread.h"

#include <pybind11/stl.h>

#include "arrays.h"
#include "register.h"
#include "waiting.h"

namespace py = pybind11;

namespace personaplug {
namespace {

py::dict timings_of(const Ticket &ticket) { return dict_of(ticket.timings()); }

std::vector<std::unique_ptr<Ticket>> submit(EngineThread &thread, const py::object &prompt, const py::object &sampling,
                                            int n, const py::object &options) {
    Prompt parsed = prompt_of(prompt);
    const SamplingOptions chosen = sampling_of(sampling);
    const RequestOptions asked = options_of(options);
    const py::gil_scoped_release released;
    return thread.submit(std::move(parsed), chosen, n, asked);
}

std::unique_ptr<Ticket> submit_beams(EngineThread &thread, const py::object &prompt, const py::object &beams,
                                     const py::object &options) {
    Prompt parsed = prompt_of(prompt);
    const BeamOptions chosen = beams_of(beams);
    const RequestOptions asked = options_of(options);
    const py::gil_scoped_release released;
    return thread.submit_beams(std::move(parsed), chosen, asked);
}

std::unique_ptr<Hold> hold(const std::shared_ptr<EngineThread> &thread) { return std::make_unique<Hold>(thread); }

// Waits for a call; when a signal ends the wait, the call is ended first: what it refers to is the caller's.
void wait_for(const std::shared_ptr<Call> &call) {
    try {
        wait_in_pieces(Seconds(1e9), [&](Seconds most) { return call->wait(most); });
    } catch (const py::error_already_set &) {
        without_gil([&] {
            call->abandon();
            return true;
        });
        throw;
    }
}

std::vector<std::vector<float>> score(EngineThread &thread, const py::object &prompt, const py::sequence &continuations,
                                      const py::object &options) {
    const Prompt parsed = prompt_of(prompt);
    const RequestOptions asked = options_of(options);
    std::vector<std::vector<int32_t>> tokens;
    for (const py::handle continuation : continuations) {
        tokens.push_back(ids_of(continuation));
    }
    std::vector<std::vector<float>> result;
    wait_for(thread.call([&](Engine &engine) { result = engine.score(parsed, tokens, asked); }));
    return result;
}

py::array_t<float> logits(EngineThread &thread, const py::object &prompt, const py::object &options) {
    const Prompt parsed = prompt_of(prompt);
    const RequestOptions asked = options_of(options);
    std::vector<float> values;
    int columns = 0;
    wait_for(thread.call([&](Engine &engine) {
        values = engine.logits(parsed, asked);
        columns = engine.model().tokenizer().size();
    }));
    return matrix_of(std::move(values), parsed.size(), columns);
}

void register_ticket(py::module_ &module) {
    py::class_<Ticket>(module, "Ticket",
                       "A request of an EngineThread; when it is collected, the request is cancelled.",
                       py::release_gil_before_calling_cpp_dtor())
        .def_property_readonly("sequence", &Ticket::sequence, "The engine's number of the request.")
        .def_property_readonly("ended", &Ticket::ended, "Whether its last event is there, or was taken.")
        .def(
            "next",
            [](Ticket &ticket, const py::object &timeout, bool whole) -> std::optional<Event> {
                if (std::optional<Event> there = ticket.next(Seconds(0), whole)) {
                    return there;
                }
                const Seconds seconds = seconds_of(timeout);
                if (seconds <= Seconds(0)) {
                    return std::nullopt;
                }
                return wait_in_pieces(seconds, [&](Seconds most) { return ticket.next(most, whole); });
            },
            py::arg("timeout") = py::none(), py::arg("whole") = false,
            "All that happened since the last call, joined; None: nothing in this time. Raises what ended the request. "
            "whole: waits for the last of it.")
        .def("timings", &timings_of, "Once it has ended.")
        .def("cancel", &Ticket::cancel, py::call_guard<py::gil_scoped_release>(),
             "Ends the request and breaks off its decode; its last event is still to come.")
        .def("cancel_soon", &Ticket::cancel_soon, "As cancel, before the next step; waits for nothing.")
        .def(
            "watch", [](Ticket &ticket, bool at_end) { ticket.watch(at_end ? Mailbox::end : Mailbox::news); },
            py::arg("at_end"), "Makes EngineThread.ready tell the sequence, once.");
}

} // namespace

void register_engine_thread(py::module_ &module) {
    remember_main_thread();
    register_ticket(module);
    py::class_<Hold>(module, "Hold", "What EngineThread.hold gives.", py::release_gil_before_calling_cpp_dtor());
    py::class_<EngineThread, std::shared_ptr<EngineThread>>(
        module, "EngineThread", "The thread that steps an engine while there is work, and sleeps otherwise.",
        py::release_gil_before_calling_cpp_dtor())
        .def(py::init(&EngineThread::start), py::arg("engine"))
        .def("submit", &submit, py::arg("prompt"), py::arg("sampling"), py::arg("n") = 1,
             py::arg("options") = py::none(), "As Engine.submit_samples; waits for no decode.")
        .def("submit_beams", &submit_beams, py::arg("prompt"), py::arg("beams"), py::arg("options") = py::none(),
             "As Engine.submit_beams; waits for no decode.")
        .def("hold", &hold, "No step begins while the object lives: what is submitted meanwhile begins together.")
        .def(
            "ready", [](EngineThread &thread) { return without_gil([&] { return thread.ready(Seconds(1e9)); }); },
            "Waits for watched tickets; their sequences. May be empty: look whether it was closed.")
        .def("score", &score, py::arg("prompt"), py::arg("continuations"), py::arg("options") = py::none(),
             "As Engine.score, between two steps.")
        .def("logits", &logits, py::arg("prompt"), py::arg("options") = py::none(),
             "As Engine.logits, between two steps.")
        .def("check", &EngineThread::check_process, "Raises EngineError in a child of fork().")
        .def("close", &EngineThread::close, py::call_guard<py::gil_scoped_release>(),
             "Ends the thread; every waiter gets an EngineError.")
        .def_property_readonly("closed", &EngineThread::closed)
        .def_property_readonly("unfinished", &EngineThread::unfinished, "Requests that have not ended.")
        .def_property_readonly("mailboxes", &EngineThread::mailboxes, "Requests that somebody holds, or that run.");
}

} // namespace personaplug
