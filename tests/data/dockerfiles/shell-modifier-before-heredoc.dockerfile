FROM scratch
RUN echo ${x^^} <<E
E
