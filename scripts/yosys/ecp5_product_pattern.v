// The part of the array's cell that a MULT18X18D holds: the register of A, the stationary operand
// with its enable, the multiplier, the register of the product. For `extract`; A's register has an
// output of its own, which goes to the next cell.
module cell_product (clk, a_i, w_i, load, a_o, product);
  input clk, load;
  input signed [7:0] a_i, w_i;
  output reg signed [7:0] a_o;
  output reg signed [15:0] product;
  reg signed [7:0] w;
  always @(posedge clk) begin
    a_o <= a_i;
    if (load) w <= w_i;
    product <= a_o * w;
  end
endmodule
