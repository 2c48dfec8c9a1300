# SPDX-License-Identifier: Apache-2.0
# docker build -t eddy . && docker run -p 50051:50051 -p 9464:9464 eddy
FROM debian:12-slim AS build
WORKDIR /src
COPY deploy/install deploy/packages.txt deploy/
RUN deploy/install build
COPY . .
RUN cmake --preset release && cmake --build --preset release --target eddy-server eddy eddy-quantize

FROM debian:12-slim
RUN apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends libgrpc++1.51 libprotobuf32 libabsl20220623 libpng16-16 libprometheus-cpp-pull1.0 \
        libpcre2-8-0 libutf8proc2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home eddy
COPY --from=build /src/build/release/bin/eddy-server /src/build/release/bin/eddy /src/build/release/bin/eddy-quantize /usr/local/bin/
COPY models/shakespeare /models/shakespeare
USER 10001
EXPOSE 50051 9464
ENTRYPOINT ["eddy-server"]
CMD ["--model", "/models/shakespeare", "--listen", "0.0.0.0:50051", "--metrics-listen", "0.0.0.0:9464"]
