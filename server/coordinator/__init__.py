"""The coordinator on its own machine: certificates, processes, enrolment."""
