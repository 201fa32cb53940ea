#include "backend.h"
#include "llama.h"
#include "memory.h"
#include "register.h"

#include <pybind11/stl.h>

namespace py = pybind11;

namespace personaplug {

void register_system(py::module_ &module) {
    module.attr("LLAMA_CPP_PYTHON_VERSION") = PERSONAPLUG_LLAMA_CPP_PYTHON;
    module.attr("LLAMA_CPP_VERSION") = PERSONAPLUG_LLAMA_VERSION;
    module.attr("LLAMA_CPP_COMMIT") = PERSONAPLUG_LLAMA_COMMIT;
    module.def("system_info", &system_info, "Instruction sets and features that llama.cpp was compiled with.");
    module.def("return_free_memory", &return_free_memory, py::call_guard<py::gil_scoped_release>(),
               "Gives the system back what the C library keeps of memory that was freed, where it can.");
    module.def(
        "devices",
        [] {
            py::list found;
            for (const Device &device : devices()) {
                py::dict entry;
                entry["name"] = device.name;
                entry["description"] = device.description;
                entry["kind"] = device.kind;
                entry["memory_total"] = device.memory_total;
                entry["memory_free"] = device.memory_free;
                found.append(entry);
            }
            return found;
        },
        "Devices as dicts: name, description, kind (cpu, gpu, igpu, accelerator, other), memory_total and memory_free "
        "in bytes.");
}

} // namespace personaplug
