function matlab_layers (file, class_name)
  % Layers of MATLAB's with their properties, an input and the output that their definitions give, computed with
  % loops over every index: nothing of this knows how another framework lays weights out.
  rand ('twister', 7);  randn ('twister', 7);
  global kind;  kind = class_name;
  n.dense = dense ();
  n.conv1 = conv1 ();
  n.conv2 = conv2 ();
  n.single = single_filter ();
  n.conv3 = conv3 ();
  n.grouped = grouped (2, 3, 2);
  n.channelwise = grouped (1, 2, 4);
  n.channelwise.NumGroups = 'channel-wise';
  n.transposed = transposed ();
  n.lstm = lstm (3, 5, false);
  n.bilstm = bilstm (3, 5);
  n.gru_after = gru (3, 5, 'after-multiplication');
  n.gru_before = gru (3, 5, 'before-multiplication');
  n.gru_both = gru (3, 5, 'recurrent-bias-after-multiplication');
  n.batchnorm = batchnorm ();
  n.groupnorm = groupnorm (2);
  n.instancenorm = instancenorm ();
  n.layernorm = layernorm ();
  n.overtime = overtime ();
  n.words = words ();
  n.prelu = prelu ();
  n.average = average ();
  n.largest = largest ();
  save ('-v7', file, '-struct', 'n');
end

function x = draw (varargin)
  global kind;
  x = cast (randn (varargin{:}), kind);
end

function y = sigmoid (x)
  y = 1 ./ (1 + exp (-x));
end

function r = dense ()
  r = struct ('Type', 'nnet.cnn.layer.FullyConnectedLayer', 'X', draw (5, 4), 'Weights', draw (3, 5), 'Bias', draw (3, 1));
  for o = 1:3
    for t = 1:4
      r.output(o,t) = r.Bias(o);
      for i = 1:5
        r.output(o,t) = r.output(o,t) + r.Weights(o,i) * r.X(i,t);
      end
    end
  end
end

function r = conv1 ()   % channel x time, causal, the filter's elements two apart
  r = struct ('Type', 'Convolution1DLayer', 'X', draw (3, 7), 'Weights', draw (2, 3, 4), 'Bias', draw (1, 4), ...
              'Stride', 1, 'DilationFactor', 2, 'PaddingMode', 'causal', 'PaddingSize', [2 0]);
  for o = 1:4
    for t = 1:7
      r.output(o,t) = r.Bias(o);
      for k = 1:2
        at = t + 2*(k-1) - 2;
        if at >= 1
          for i = 1:3
            r.output(o,t) = r.output(o,t) + r.Weights(k,i,o) * r.X(i,at);
          end
        end
      end
    end
  end
end

function r = conv2 ()   % height x width x channel x batch; padding [top bottom left right]
  r = struct ('X', draw (6, 5, 3, 2), 'Weights', draw (3, 2, 3, 4), 'Bias', draw (1, 1, 4), 'Stride', [2 1], ...
              'DilationFactor', [1 2], 'PaddingMode', 'manual', 'PaddingSize', [1 0 2 1]);
  for b = 1:2
    for o = 1:4
      for h = 1:3
        for w = 1:6
          r.output(h,w,o,b) = r.Bias(o);
          for y = 1:3
            for x = 1:2
              row = 2*(h-1) + y - 1;
              column = w + 2*(x-1) - 2;
              if row >= 1 && row <= 6 && column >= 1 && column <= 5
                for i = 1:3
                  r.output(h,w,o,b) = r.output(h,w,o,b) + r.Weights(y,x,i,o) * r.X(row,column,i,b);
                end
              end
            end
          end
        end
      end
    end
  end
end

function r = single_filter ()   % one filter, one image: their axes are dropped in the file
  r = struct ('X', draw (4, 5, 2), 'Weights', draw (2, 3, 2), 'Bias', draw (1, 1), 'Stride', [1 1], 'PaddingSize', [0 0 0 0]);
  for h = 1:3
    for w = 1:3
      r.output(h,w) = r.Bias;
      for y = 1:2
        for x = 1:3
          for i = 1:2
            r.output(h,w) = r.output(h,w) + r.Weights(y,x,i) * r.X(h+y-1,w+x-1,i);
          end
        end
      end
    end
  end
end

function r = conv3 ()   % padding [top left front; bottom right back]
  r = struct ('X', draw (4, 3, 5, 2), 'Weights', draw (2, 3, 2, 2, 3), 'Bias', draw (1, 1, 1, 3), ...
              'Stride', [1 1 2], 'PaddingSize', [0 1 0; 1 0 1]);
  for o = 1:3
    for h = 1:4
      for w = 1:2
        for d = 1:3
          r.output(h,w,d,o) = r.Bias(o);
          for y = 1:2
            for x = 1:3
              for z = 1:2
                at = [h+y-1, w+x-2, 2*(d-1)+z];
                if all (at >= 1) && all (at <= [4 3 5])
                  for i = 1:2
                    r.output(h,w,d,o) = r.output(h,w,d,o) + r.Weights(y,x,z,i,o) * r.X(at(1),at(2),at(3),i);
                  end
                end
              end
            end
          end
        end
      end
    end
  end
end

function r = grouped (channels, filters, groups)
  r = struct ('Type', 'groupedConvolution2dLayer', 'X', draw (4, 5, channels*groups, 2), 'Stride', [1 2], ...
              'Weights', draw (2, 3, channels, filters, groups), 'Bias', draw (1, 1, filters, groups));
  for b = 1:2
    for g = 1:groups
      for f = 1:filters
        for h = 1:3
          for w = 1:2
            o = (g-1)*filters + f;
            r.output(h,w,o,b) = r.Bias(1,1,f,g);
            for y = 1:2
              for x = 1:3
                for i = 1:channels
                  r.output(h,w,o,b) = r.output(h,w,o,b) + r.Weights(y,x,i,f,g) * r.X(h+y-1,2*(w-1)+x,(g-1)*channels+i,b);
                end
              end
            end
          end
        end
      end
    end
  end
end

function r = transposed ()   % weights height x width x filter x channel; every element of X spreads over the output
  r = struct ('X', draw (3, 4, 5), 'Weights', draw (3, 2, 2, 5), 'Bias', draw (1, 1, 2), 'Stride', [2 3], ...
              'CroppingMode', 'manual', 'CroppingSize', [1 0 0 2]);
  whole = zeros (7, 11, 2, class (r.X));
  for h = 1:3
    for w = 1:4
      for i = 1:5
        for y = 1:3
          for x = 1:2
            for o = 1:2
              whole(2*(h-1)+y,3*(w-1)+x,o) = whole(2*(h-1)+y,3*(w-1)+x,o) + r.X(h,w,i) * r.Weights(y,x,o,i);
            end
          end
        end
      end
    end
  end
  for o = 1:2
    r.output(:,:,o) = whole(2:7,1:9,o) + r.Bias(o);
  end
end

function h = lstm_hidden (X, W, R, b, reverse)
  n = columns (R);
  state = zeros (n, 1, class (X));
  cell = state;
  times = 1:columns (X);
  if reverse
    times = fliplr (times);
  end
  for t = times
    gates = W * X(:,t) + R * state + b;
    i = sigmoid (gates(1:n));
    f = sigmoid (gates(n+1:2*n));
    g = tanh (gates(2*n+1:3*n));
    o = sigmoid (gates(3*n+1:4*n));
    cell = f .* cell + i .* g;
    state = o .* tanh (cell);
    h(:,t) = state;
  end
end

function r = lstm (n, m, reverse)
  r = struct ('X', draw (m, 6), 'InputWeights', draw (4*n, m), 'RecurrentWeights', draw (4*n, n), 'Bias', draw (4*n, 1));
  r.output = lstm_hidden (r.X, r.InputWeights, r.RecurrentWeights, r.Bias, reverse);
end

function r = bilstm (n, m)
  r = struct ('X', draw (m, 6), 'InputWeights', draw (8*n, m), 'RecurrentWeights', draw (8*n, n), 'Bias', draw (8*n, 1));
  a = 1:4*n;
  b = 4*n+1 : 8*n;
  r.output = [lstm_hidden(r.X, r.InputWeights(a,:), r.RecurrentWeights(a,:), r.Bias(a), false)
              lstm_hidden(r.X, r.InputWeights(b,:), r.RecurrentWeights(b,:), r.Bias(b), true)];
end

function y = gru (n, m, mode)
  twice = strcmp (mode, 'recurrent-bias-after-multiplication');
  y = struct ('X', draw (m, 6), 'InputWeights', draw (3*n, m), 'RecurrentWeights', draw (3*n, n), ...
              'Bias', draw (3*n*(1+twice), 1), 'ResetGateMode', mode);
  R = y.RecurrentWeights;
  b = y.Bias(1:3*n);
  c = zeros (3*n, 1);
  if twice
    c = y.Bias(3*n+1:6*n);
  end
  state = zeros (n, 1, class (y.X));
  for t = 1:6
    p = y.InputWeights * y.X(:,t) + b;
    r = sigmoid (p(1:n) + R(1:n,:) * state + c(1:n));
    z = sigmoid (p(n+1:2*n) + R(n+1:2*n,:) * state + c(n+1:2*n));
    U = R(2*n+1:3*n,:);
    if strcmp (mode, 'before-multiplication')
      g = tanh (p(2*n+1:3*n) + U * (r .* state));
    else
      g = tanh (p(2*n+1:3*n) + r .* (U * state + c(2*n+1:3*n)));
    end
    state = (1 - z) .* g + z .* state;
    y.output(:,t) = state;
  end
end

function r = batchnorm ()   % one image
  r = struct ('X', draw (3, 4, 5), 'TrainedMean', draw (1, 1, 5), 'TrainedVariance', draw (1, 1, 5) .^ 2, ...
              'Scale', draw (1, 1, 5), 'Offset', draw (1, 1, 5), 'Epsilon', 1e-3);
  for c = 1:5
    r.output(:,:,c) = r.Scale(c) * (r.X(:,:,c) - r.TrainedMean(c)) / sqrt (r.TrainedVariance(c) + 1e-3) + r.Offset(c);
  end
end

function y = spread (x, epsilon)
  m = sum (x(:)) / numel (x);
  y = (x - m) / sqrt (sum ((x(:) - m) .^ 2) / numel (x) + epsilon);
end

function r = groupnorm (groups)   % two images
  r = struct ('X', draw (3, 4, 6, 2), 'Scale', draw (6, 1), 'Offset', draw (6, 1), 'Epsilon', 1e-4, 'NumGroups', groups);
  each = 6 / groups;
  for b = 1:2
    for g = 1:groups
      at = (g-1)*each+1 : g*each;
      normal = spread (r.X(:,:,at,b), 1e-4);
      for k = 1:each
        r.output(:,:,at(k),b) = normal(:,:,k) * r.Scale(at(k)) + r.Offset(at(k));
      end
    end
  end
end

function r = instancenorm ()
  r = struct ('Type', 'instanceNormalizationLayer', 'X', draw (3, 4, 2, 2), 'Scale', draw (2, 1), 'Offset', draw (2, 1), 'Epsilon', 1e-4);
  for b = 1:2
    for c = 1:2
      r.output(:,:,c,b) = spread (r.X(:,:,c,b), 1e-4) * r.Scale(c) + r.Offset(c);
    end
  end
end

function r = layernorm ()   % a sequence: over the channels
  r = struct ('X', draw (5, 7), 'Scale', draw (5, 1), 'Offset', draw (5, 1), 'Epsilon', 1e-4, 'OperationDimension', 'auto');
  for t = 1:7
    r.output(:,t) = spread (r.X(:,t), 1e-4) .* r.Scale + r.Offset;
  end
end

function r = overtime ()   % over channels and time
  r = struct ('Type', 'LayerNormalizationLayer', 'X', draw (5, 7), 'Scale', draw (5, 1), 'Offset', draw (5, 1), ...
              'Epsilon', 1e-4, 'OperationDimension', 'batch-excluded');
  r.output = spread (r.X, 1e-4) .* r.Scale + r.Offset;
end

function r = words ()   % indices count from one
  r = struct ('X', cast ([2 7 1 1 5], class (draw (1))), 'Weights', draw (3, 7), 'Dimension', 3, 'NumWords', 6);
  for t = 1:5
    r.output(:,t) = r.Weights(:,r.X(t));
  end
end

function r = prelu ()
  r = struct ('Type', 'PReLULayer', 'X', draw (4, 6), 'Alpha', draw (4, 1));
  r.output = max (r.X, 0) + r.Alpha .* min (r.X, 0);
end

function r = average ()   % its padding of zeros counts
  r = struct ('Type', 'AveragePooling2DLayer', 'X', draw (5, 4, 2, 2), 'PoolSize', [3 2], 'Stride', [2 1], ...
              'PaddingMode', 'manual', 'PaddingSize', [1 1 0 1], 'PaddingValue', 0);
  padded = zeros (7, 5, 2, 2, class (r.X));
  padded(2:6,1:4,:,:) = r.X;
  for h = 1:3
    for w = 1:4
      r.output(h,w,:,:) = sum (sum (padded(2*h-1:2*h+1,w:w+1,:,:), 1), 2) / 6;
    end
  end
end

function r = largest ()   % a stride of one where none is said
  r = struct ('Type', 'maxPooling1dLayer', 'X', draw (3, 7), 'PoolSize', 3);
  for t = 1:5
    r.output(:,t) = max (r.X(:,t:t+2), [], 2);
  end
end
