class GreetingsController < ActionController::Base
  def show
    render json: { hello: params[:name] }
  end
end
